"""Makes a set of street scenes on the command line."""

import argparse
import json
from collections import Counter

from .make import CLASSES, make_tiny_traffic


def parse_args(args=None):
    parser = argparse.ArgumentParser(
        prog='python -m mmdet_yolo2fl.datasets.tiny_traffic',
        description='Renders street scenes with boxes in COCO format. TinyTrafficDataset does '
        'this itself on first use; use this command to make a set elsewhere, to look at it, or '
        'for another program.',
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument('folder', help='where the set gets a folder of its own (its data_root)')
    parser.add_argument('--split', choices=('train', 'val', 'test'), default='train')
    parser.add_argument(
        '--num-images',
        type=int,
        default=argparse.SUPPRESS,
        help='how many images (default: 3000 for train, 250 for val and test)',
    )
    parser.add_argument(
        '--image-size',
        type=int,
        nargs=2,
        default=(416, 256),
        metavar=('WIDTH', 'HEIGHT'),
        help='in pixels; multiples of 32 suit YOLOv2',
    )
    parser.add_argument('--seed', type=int, default=0, help='another seed, other images')
    parser.add_argument(
        '--class-frequencies',
        type=float,
        nargs=len(CLASSES),
        default=(0.80, 0.10, 0.06, 0.04),
        metavar=tuple(name.upper() for name in CLASSES),
        help='the share of each class among the objects',
    )
    return parser, vars(parser.parse_args(args))


def main(args=None):
    parser, recipe = parse_args(args)
    try:
        path = make_tiny_traffic(recipe.pop('folder'), **recipe)
    except ValueError as error:
        parser.error(str(error))
    counts = Counter(ann['category_id'] for ann in json.loads(path.read_text())['annotations'])
    print(path)
    for index, name in enumerate(CLASSES):
        print(f'{counts[index + 1]:7d} {name}')


if __name__ == '__main__':
    main()
