"""An exported detector in OpenCV's DNN module: only numpy and opencv-python 4.7 or later.

python tools/export.py CONFIG CHECKPOINT --out exported --formats onnx
python examples/opencv_dnn.py exported/NAME.onnx exported/NAME.json photo.jpg drawn.png
"""

import json
import sys
from pathlib import Path

import cv2
import numpy as np

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
network = cv2.dnn.readNetFromONNX(model)
network.setInput(np.ascontiguousarray(pixels.transpose(2, 0, 1)[None], np.float32))
raw = network.forward().astype(np.float64)  # (1, A*(5+C), rows, columns)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


anchors, stride = np.array(about['map']['anchors']), about['map']['stride']
raw = raw.reshape(len(anchors), -1, *raw.shape[2:])
row, column = np.indices(raw.shape[2:])
center = np.stack([sigmoid(raw[:, 0]) + column, sigmoid(raw[:, 1]) + row], -1)
size = np.exp(raw[:, 2:4].transpose(0, 2, 3, 1)) * anchors[:, None, None]
scores = sigmoid(raw[:, 5:])
if about['map']['class_activation'] == 'softmax':
    scores = np.exp(raw[:, 5:]) / np.exp(raw[:, 5:]).sum(1, keepdims=True)
if about['map']['objectness']:
    scores = scores * sigmoid(raw[:, 4:5])

# x, y, width, height in pixels of the photo; a line for each class of each slot
scale = np.divide(image.shape[1::-1], about['input']['size']) * stride
boxes = (np.concatenate([center - size / 2, size], -1) * np.tile(scale, 2)).reshape(-1, 4)
scores = scores.transpose(0, 2, 3, 1).reshape(len(boxes), -1)
slot, label = np.nonzero(scores > about['score_thr'])
boxes, scores = boxes[slot], scores[slot, label]
limits = about['score_thr'], about['nms_iou_threshold']
# What suppresses each other.
group = label * (not about.get('class_agnostic', False))
for index in cv2.dnn.NMSBoxesBatched(boxes.tolist(), scores.tolist(), group.tolist(), *limits):
    (x, y, w, h), name = boxes[index], about['classes'][label[index]]
    print(name, f'{scores[index]:.4f} {x:.1f} {y:.1f} {x + w:.1f} {y + h:.1f}')
    if scores[index] >= 0.3:
        cv2.rectangle(image, np.int32([x, y, w, h]), (0, 0, 255), 2)
        cv2.putText(image, name, (int(x), int(y) - 4), 0, 0.5, (0, 0, 255))
if not cv2.imwrite(drawn, image):
    sys.exit(f'{drawn}: cannot be written')
