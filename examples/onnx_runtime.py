"""An exported detector in ONNX Runtime: only numpy, opencv-python and onnxruntime.

python tools/export.py CONFIG CHECKPOINT --out exported --formats onnx-nms
python examples/onnx_runtime.py exported/NAME_nms.onnx exported/NAME.json photo.jpg drawn.png
"""

import json
import sys
from pathlib import Path

import cv2
import numpy as np
import onnxruntime

model, description, photo, drawn = sys.argv[1:]
about = json.loads(Path(description).read_text('utf-8'))
# EXIF's note how to turn a photo is followed, unless the detector was trained without.
flag = cv2.IMREAD_COLOR if about['input'].get('exif', True) else cv2.IMREAD_IGNORE_ORIENTATION
image = cv2.imread(photo, cv2.IMREAD_COLOR | flag)
made_for = about['input']['resize'], about['input'].get('interpolation', 'bilinear')
if made_for != ('stretch', 'bilinear'):
    sys.exit(f'written for images that are stretched, bilinear, not: {", ".join(made_for)}')
pixels = cv2.resize(image, about['input']['size'])
grey = np.floor(pixels @ (0.114, 0.587, 0.299))  # cv2.cvtColor would round; MMCV rounds down
channels = dict(RGB=pixels[..., ::-1], BGR=pixels, grey=grey)
pixels = np.atleast_3d(channels[about['input']['channels']]).astype(np.float32)
pixels = (pixels - about['input']['mean']) / about['input']['std']
session = onnxruntime.InferenceSession(model, providers=['CPUExecutionProvider'])
inputs = np.ascontiguousarray(pixels.transpose(2, 0, 1)[None], np.float32)
boxes, scores, labels, _ = session.run(None, {'images': inputs})

# Corners in pixels of the photo.
boxes = boxes * np.tile(np.divide(image.shape[1::-1], about['input']['size']), 2)
for box, score, label in zip(boxes, scores, labels):
    name, (x1, y1, x2, y2) = about['classes'][label], box
    print(name, f'{score:.4f} {x1:.1f} {y1:.1f} {x2:.1f} {y2:.1f}')
    if score >= 0.3:
        cv2.rectangle(image, np.int32(box[:2]), np.int32(box[2:]), (0, 0, 255), 2)
        cv2.putText(image, name, (int(x1), int(y1) - 4), 0, 0.5, (0, 0, 255))
if not cv2.imwrite(drawn, image):
    sys.exit(f'{drawn}: cannot be written')
