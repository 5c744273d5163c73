"""Runs a YOLOv2 of this project in OpenCV's DNN module too, and compares.

python tools/compare_opencv.py configs/yolov2_fl.py work_dirs/demo/epoch_3.pth --out compared
python tools/compare_opencv.py CONFIG CHECKPOINT --out compared --ap

Leaves in --out: the Darknet files that OpenCV reads (darknet/), parity.md with the largest
differences of the outputs on the first test images, and boxes.jpg: what PyTorch finds on the left,
what OpenCV's own region layer and NMS find on the right. --ap evaluates the whole test set twice,
on PyTorch's prediction map and on OpenCV's, with the same decoding, NMS and metric.
"""

import sys

try:
    from mmdet_yolo2fl.darknet.opencv import OpenCVNetwork, largest_differences, use_opencv
except ImportError as error:
    if error.name == 'mmdet_yolo2fl':
        sys.exit(
            'The package is not installed in this Python: `source .venv/bin/activate` after '
            '`make env` in its checkout, or `pip install -e .` there'
        )
    sys.exit(str(error))

import argparse
from pathlib import Path

import cv2
import mmcv
import numpy as np
import torch
from mmcv.ops import batched_nms
from mmengine.runner import Runner
from mmengine.structures import InstanceData

from mmdet_yolo2fl.checkpoints import load_only_weights
from mmdet_yolo2fl.command_line import add_config_options, check_data, read_config
from mmdet_yolo2fl.darknet import mmdet_to_darknet
from mmdet_yolo2fl.export.check import in_photo
from mmdet_yolo2fl.tables import markdown_table
from mmdet_yolo2fl.whole_files import write_bytes, write_text


def make_parser():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('config', help='config file')
    parser.add_argument('checkpoint', help='checkpoint file; refused if it could run code')
    parser.add_argument('--out', default='work_dirs/compare_opencv', help='folder for the results')
    parser.add_argument('--images', type=int, default=4, help='how many to compare and draw')
    parser.add_argument('--ap', action='store_true', help='evaluate the test set both ways')
    parser.add_argument('--score-thr', type=float, default=0.3, help='of the boxes drawn')
    add_config_options(parser)
    return parser


def make_runner(cfg, checkpoint, out):
    """A runner on the CPU, one image at a time as OpenCV works."""
    cfg.work_dir = str(Path(out, 'runs'))
    cfg.load_from = str(checkpoint)
    cfg.resume = False
    cfg.test_dataloader.batch_size = 1
    cfg.test_dataloader.num_workers = 0
    for key in ('persistent_workers', 'prefetch_factor'):  # of workers
        cfg.test_dataloader.pop(key, None)
    runner = Runner.from_cfg(cfg)
    runner.model.cpu().eval()
    runner.call_hook('before_run')  # in which EMAHook makes what it loads the weights into
    runner.load_or_resume()
    return runner


def opencv_boxes(region, sample, nms, score_thr):
    """Boxes in the original image, from what OpenCV's region layer returns."""
    height, width = sample.batch_input_shape
    scores, labels = region[:, 5:].max(1)
    keep = scores > score_thr
    region, scores, labels = region[keep], scores[keep], labels[keep]
    centre, size = region[:, :2], region[:, 2:4]
    boxes = torch.cat([centre - size / 2, centre + size / 2], 1)
    boxes = in_photo(boxes * boxes.new_tensor([width, height] * 2), sample)
    if len(boxes):  # MMCV's suppression needs at least one
        _, kept = batched_nms(boxes, scores, labels, nms)
        boxes, scores, labels = boxes[kept], scores[kept], labels[kept]
    return InstanceData(bboxes=boxes, scores=scores, labels=labels)


@torch.no_grad()
def compare_images(runner, network, args):
    """Differences of each image, and rows of drawn pairs."""
    model, rows, differences = runner.model, [], []
    runner.visualizer.dataset_meta = runner.test_dataloader.dataset.metainfo
    for number, data in enumerate(runner.test_dataloader):
        if number == args.images:
            break
        data = model.data_preprocessor(data, False)
        inputs, (sample,) = data['inputs'], data['data_samples']
        differences.append(largest_differences(model, network, inputs, args.score_thr))
        ours = model.predict(inputs, [sample.clone()], rescale=True)[0]
        theirs = sample.clone()
        theirs.pred_instances = opencv_boxes(
            network.region(inputs), sample, model.test_cfg.nms, args.score_thr
        )
        image = mmcv.imread(sample.img_path, channel_order='rgb')
        pair = []
        for title, found in (('PyTorch', ours), ("OpenCV's DNN module", theirs)):
            runner.visualizer.add_datasample(
                title, image, found, draw_gt=False, pred_score_thr=args.score_thr
            )
            drawn = np.ascontiguousarray(runner.visualizer.get_image()[..., ::-1])
            cv2.putText(drawn, title, (6, 16), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (0, 0, 0), 3)
            cv2.putText(drawn, title, (6, 16), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (255, 255, 255), 1)
            pair.append(drawn)
        rows.append(np.hstack(pair))
    return differences, rows


def write_results(differences, rows, metrics, out):
    """parity.md and boxes.jpg."""
    keys = ('map', 'boxes', 'objectness', 'scores')
    lines = [[key, f'{max(one[key] for one in differences):.1e}'] for key in keys]
    text = markdown_table(['what', 'largest difference / largest magnitude'], lines) + '\n'
    kept = sum(one['kept'] for one in differences)
    text += f'\n{len(differences)} images; {kept} scores that OpenCV kept.\n'
    if metrics:
        both = [(key, ours, metrics[1][key]) for key, ours in metrics[0].items()]
        lines = [[key, f'{a:.4f}', f'{b:.4f}', f'{b - a:+.4f}'] for key, a, b in both]
        text += '\n' + markdown_table(['metric', 'PyTorch', 'OpenCV', 'difference'], lines) + '\n'
    write_text(Path(out, 'parity.md'), text)
    width = max(row.shape[1] for row in rows)
    # A JPEG can be so high.
    rows = [row for row, end in zip(rows, np.cumsum([len(row) for row in rows])) if end <= 65500]
    if not rows or width > 65500:
        print('The images are too large to be drawn.')
        return text
    rows = [cv2.copyMakeBorder(r, 0, 0, 0, width - r.shape[1], cv2.BORDER_CONSTANT) for r in rows]
    _, picture = cv2.imencode('.jpg', np.vstack(rows), [cv2.IMWRITE_JPEG_QUALITY, 88])
    write_bytes(Path(out, 'boxes.jpg'), picture.tobytes())
    return text


def main(args=None):
    parser = make_parser()
    args = parser.parse_args(args)
    if args.images < 1:
        parser.error('--images must be at least 1')
    load_only_weights()
    if not 0 <= args.score_thr < 1:
        parser.error(f'--score-thr must lie in 0..1, got {args.score_thr}')
    cfg = read_config(args, parser, 'model', 'test_dataloader')
    check_data(cfg, parser, 'test')
    try:
        paths = mmdet_to_darknet(
            cfg, args.checkpoint, Path(args.out, 'darknet'), opencv_thresh=args.score_thr
        )
        network = OpenCVNetwork(*paths[:2])
    except (ImportError, OSError, ValueError) as error:
        parser.error(str(error))
    runner = make_runner(cfg, args.checkpoint, args.out)
    differences, rows = compare_images(runner, network, args)
    metrics = []
    if args.ap:
        metrics.append(runner.test())
        use_opencv(runner.model, network)
        metrics.append(runner.test())
    print('\n' + write_results(differences, rows, metrics, args.out))
    print(f'In {args.out}: boxes.jpg, parity.md, darknet/')


if __name__ == '__main__':
    main()
