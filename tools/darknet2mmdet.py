"""Turns a YOLOv2 of Darknet into an MMDetection config and checkpoint.

python tools/darknet2mmdet.py yolov2-voc.cfg yolov2-voc.weights converted
python tools/test.py converted/yolov2-voc.py converted/yolov2-voc.pth

yolov2, yolov2-voc, yolov2-tiny, yolov2-tiny-voc, and networks of their shape with other widths,
classes, anchors and input sizes. docs/darknet.md says where the public weights are.
"""

import sys

try:
    from mmdet_yolo2fl.darknet import darknet_to_mmdet
except ImportError as error:
    if error.name == 'mmdet_yolo2fl':
        sys.exit(
            'The package is not installed in this Python: `source .venv/bin/activate` after '
            '`make env` in its checkout, or `pip install -e .` there'
        )
    sys.exit(str(error))

import argparse


def make_parser():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('cfg', help='model.cfg')
    parser.add_argument('weights', help='model.weights')
    parser.add_argument('out', help='folder for the config and the checkpoint')
    parser.add_argument(
        '--names', help='file of class names, one in each line; default: the .names beside the cfg'
    )
    parser.add_argument(
        '--resize',
        choices=['letterbox', 'stretch'],
        default='letterbox',
        help="how images come to the input size: in a grey letterbox (Darknet's master, the "
        "default) or stretched (AlexeyAB's fork)",
    )
    parser.add_argument(
        '--interpolation',
        choices=['darknet', 'opencv'],
        default='darknet',
        help="Darknet's bilinear interpolation between corners (the default), or OpenCV's, which "
        'is faster',
    )
    return parser


def main(args=None):
    parser = make_parser()
    args = parser.parse_args(args)
    try:
        config, checkpoint = darknet_to_mmdet(
            args.cfg,
            args.weights,
            args.out,
            args.names,
            letterbox=args.resize == 'letterbox',
            interpolation=args.interpolation,
        )
    except (OSError, ValueError) as error:
        parser.error(str(error))
    print(
        f'Wrote {config} and {checkpoint}. To see what it finds:\n'
        f"  python -c \"from mmdet.apis import DetInferencer as D; D('{config}', '{checkpoint}')"
        "('IMAGE.jpg', out_dir='found')\""
    )


if __name__ == '__main__':
    main()
