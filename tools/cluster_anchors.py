"""Anchors for a data set: ``python tools/cluster_anchors.py CONFIG``.

Clusters the boxes of the config's training set at its input size (YOLO9000, section 2).
"""

import sys

try:
    from mmdet_yolo2fl.anchor_clusters import (
        VOC_ANCHORS,
        average_iou,
        cluster_anchors,
        load_box_sizes,
        save_figure,
    )
    from mmdet_yolo2fl.command_line import add_config_options, check_data, read_config
    from mmdet_yolo2fl.resizing import size_at_test
    from mmdet_yolo2fl.whole_files import write_text
except ImportError as error:
    if error.name == 'mmdet_yolo2fl':
        sys.exit(
            'The package is not installed in this Python: `source .venv/bin/activate` after '
            '`make env` in its checkout, or `pip install -e .` there'
        )
    sys.exit(str(error))

import argparse
import json
from pathlib import Path

import numpy as np
from mmengine.registry import init_default_scope

MAX_CURVE_BOXES = 10_000


def present_anchors(cfg):
    """The config's anchors in grid cells, or None, and the stride in pixels."""
    generator = cfg
    for key in ('model', 'bbox_head', 'anchor_generator'):
        generator = generator.get(key) or {}
    stride = generator.get('stride', 32)
    stride = (stride, stride) if isinstance(stride, int) else tuple(stride)
    return generator.get('anchors'), stride


def iou_curve(cells, seed):
    """Average IoU with 1, 2, ... 10 anchors, on a sample of the boxes."""
    if len(cells) > MAX_CURVE_BOXES:
        cells = np.random.default_rng(seed).choice(cells, MAX_CURVE_BOXES, replace=False)
    most = min(10, len(np.unique(cells, axis=0)))
    return [
        average_iou(cells, cluster_anchors(cells, num, restarts=3, seed=seed))
        for num in range(1, most + 1)
    ]


def make_parser():
    parser = argparse.ArgumentParser(
        description='Find anchors that fit the boxes of a training set, by k-means with 1 - IoU '
        'as distance, and compare them with the present ones.'
    )
    parser.add_argument('config', help='config file; its train_dataloader names the data')
    add_config_options(parser)
    parser.add_argument(
        '--num-anchors', type=int, help="how many (default: as many as the config's head has, or 5)"
    )
    parser.add_argument(
        '--input-size',
        type=int,
        nargs='+',
        metavar='PIXELS',
        help="width and height, or one number for both (default: the training pipeline's Resize; "
        "without one size there, the test pipeline's)",
    )
    parser.add_argument(
        '--restarts', type=int, default=10, help='k-means starts to choose from (default: 10)'
    )
    parser.add_argument('--seed', type=int, default=0, help='of the starts (default: 0)')
    parser.add_argument(
        '--out',
        type=Path,
        help='folder for anchors.png and anchors.json (default: work_dirs/<config>/anchors)',
    )
    return parser


def main(argv=None):
    parser = make_parser()
    args = parser.parse_args(argv)
    size = args.input_size and tuple(args.input_size * 2)[:2]
    if args.input_size and (len(args.input_size) > 2 or min(size) < 1):
        parser.error('--input-size takes one or two positive numbers')
    cfg = read_config(args, parser, 'train_dataloader')
    present, stride = present_anchors(cfg)
    num_anchors = len(present or VOC_ANCHORS) if args.num_anchors is None else args.num_anchors

    init_default_scope(cfg.get('default_scope', 'mmdet'))
    if 'dataset' not in cfg.train_dataloader:
        parser.error(f'config {args.config} has no train_dataloader.dataset')
    check_data(cfg, parser, 'train', images=False)
    try:
        boxes = load_box_sizes(cfg.train_dataloader.dataset, size, size_at_test(cfg))
        cells = boxes.sizes / stride
        anchors = cluster_anchors(cells, num_anchors, args.restarts, args.seed).round(3)
    except (ValueError, FileNotFoundError) as error:
        parser.error(str(error))

    figures = dict(
        config=args.config,
        input_sizes=boxes.scales,
        stride=stride,
        num_images=boxes.num_images,
        num_boxes=len(cells),
        num_ignored=boxes.num_ignored,
        num_empty=boxes.num_empty,
        anchors=anchors.tolist(),
        average_iou=average_iou(cells, anchors),
        present_anchors=present,
        present_average_iou=average_iou(cells, present) if present else None,
        voc_average_iou=average_iou(boxes.sizes / 32, VOC_ANCHORS),  # in cells of 32 pixels
        average_iou_by_number=iou_curve(cells, args.seed),
        restarts=args.restarts,
        seed=args.seed,
    )
    out = args.out or Path('work_dirs', Path(args.config).stem, 'anchors')
    out.mkdir(parents=True, exist_ok=True)
    write_text(out / 'anchors.json', json.dumps(figures, indent=2))
    save_figure(out / 'anchors.png', cells, anchors, figures['average_iou_by_number'])
    report(figures, out)


def report(figures, out):
    """Print the anchors and how well they fit."""
    pairs = ', '.join(f'({width:g}, {height:g})' for width, height in figures['anchors'])
    darknet = ', '.join(f'{width:g},{height:g}' for width, height in figures['anchors'])
    sizes = ', '.join(sorted({f'{width}x{height}' for width, height in figures['input_sizes']}))
    print(
        f'{figures["num_boxes"]} boxes in {figures["num_images"]} images at {sizes}; left out: '
        f'{figures["num_ignored"]} ignored (crowd, difficult), {figures["num_empty"]} without area'
    )
    print('\nFor the config, in grid cells:')
    print(f'    anchors=[{pairs}]')
    print('For a Darknet cfg:')
    print(f'    anchors = {darknet}')
    print('\nAverage IoU of the boxes with the closest anchor, both at the origin:')
    print(f'    {figures["average_iou"]:.3f}  these anchors')
    if figures['present_anchors']:
        print(f"    {figures['present_average_iou']:.3f}  the config's present anchors")
    print(f'    {figures["voc_average_iou"]:.3f}  the 5 anchors published for VOC')
    print('    (0.610 is what YOLO9000, table 1, reports by this definition for 5 on VOC 2007)')
    print(f'\nSaved {out / "anchors.png"} and {out / "anchors.json"}')


if __name__ == '__main__':
    main()
