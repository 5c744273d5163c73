"""Turns a YOLOv2 of this project into Darknet's .cfg, .weights and .names.

python tools/mmdet2darknet.py configs/voc0712/yolov2.py work_dirs/yolov2/epoch_160.pth converted
python tools/mmdet2darknet.py CONFIG CHECKPOINT converted --for-opencv 0.3

By default `thresh` in [region] is that of training, as in Darknet's own cfgs. OpenCV's DNN module
takes it for a score threshold and has a smaller epsilon in its batch normalization: --for-opencv
writes both as it needs them.
"""

import sys

try:
    from mmdet_yolo2fl.darknet import mmdet_to_darknet, resize_note
except ImportError as error:
    if error.name == 'mmdet_yolo2fl':
        sys.exit(
            'The package is not installed in this Python: `source .venv/bin/activate` after '
            '`make env` in its checkout, or `pip install -e .` there'
        )
    sys.exit(str(error))

import argparse

from mmdet_yolo2fl.checkpoints import load_only_weights
from mmdet_yolo2fl.command_line import add_config_options, read_config


def make_parser():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('config', help='config file')
    parser.add_argument('checkpoint', help='checkpoint file; refused if it could run code')
    parser.add_argument('out', help='folder for the three files')
    parser.add_argument('--name', help='of the files; default: that of the config')
    parser.add_argument(
        '--size',
        type=int,
        nargs='+',
        metavar='PIXELS',
        help='input width, and height if it is another; default: what the test pipeline makes',
    )
    add_config_options(parser)
    parser.add_argument(
        '--for-opencv',
        type=float,
        nargs='?',
        const=0.25,
        metavar='THRESH',
        help="write them for OpenCV's DNN module, with this score threshold (0.25)",
    )
    return parser


def main(args=None):
    parser = make_parser()
    args = parser.parse_args(args)
    if args.size and len(args.size) > 2:
        parser.error('--size takes a width, or a width and a height')
    if args.for_opencv is not None and not 0 <= args.for_opencv < 1:
        parser.error(f'--for-opencv {args.for_opencv}: a score threshold lies in 0..1')
    load_only_weights()
    try:
        cfg = read_config(args, parser)
        paths = mmdet_to_darknet(
            cfg,
            args.checkpoint,
            args.out,
            opencv_thresh=args.for_opencv,
            input_size=args.size and (args.size[0], args.size[-1]),
            name=args.name,
        )
    except (OSError, ValueError) as error:
        parser.error(str(error))
    print('Wrote ' + ', '.join(map(str, paths)))
    print(resize_note(cfg))


if __name__ == '__main__':
    main()
