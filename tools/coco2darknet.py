"""Turns COCO annotations into a Darknet data set.

python tools/coco2darknet.py annotations/train.json train2017 data/mine
python tools/coco2darknet.py annotations/val.json val2017 data/mine --split valid

Writes data/mine/obj.data, obj.names, train.txt, labels/train/*.txt, and links to the images in
JPEGImages/train, where Darknet looks from each image to its labels. Then, from the same folder:
darknet detector train data/mine/obj.data yolov2.cfg darknet19_448.conv.23
"""

import sys

try:
    from mmdet_yolo2fl.darknet.data_set import SPLITS, coco_to_darknet
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
    parser.add_argument('annotations', help='annotation file in COCO format')
    parser.add_argument('image_root', help="folder to which the images' names are relative")
    parser.add_argument('out', help='folder of the data set; call it again for another split')
    parser.add_argument('--split', choices=SPLITS, default='train')
    parser.add_argument(
        '--copy-images', action='store_true', help='copy the images instead of linking to them'
    )
    return parser


def main(args=None):
    parser = make_parser()
    args = parser.parse_args(args)
    try:
        report = coco_to_darknet(
            args.annotations, args.image_root, args.out, args.split, args.copy_images
        )
    except (OSError, ValueError) as error:
        parser.error(str(error))
    print()
    for kind, count in sorted(report.counts.items()):
        print(f'{count:8d} {kind}')
    print(f'Wrote {args.out}/obj.data')


if __name__ == '__main__':
    main()
