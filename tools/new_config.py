"""Writes a config for a data set of your own, after a look through its annotations.

python tools/new_config.py configs/mine.py --coco train.json val.json --images photos/
python tools/new_config.py configs/mine.py --coco train.json val.json --images train/ val/
python tools/new_config.py configs/mine.py --voc data/mine                (ImageSets/Main/train.txt,
python tools/new_config.py configs/mine.py --voc data/mine trainval test   val.txt; or two others)
python tools/new_config.py configs/mine.py ... --network narrow --size 320 256

Takes the classes from the annotations, clusters the anchors from the boxes, and says what will be
left out. The networks: darknet19 (YOLOv2), narrow (half its width, for CPUs), both also with cells
of 16 pixels (_stride16, for small objects), tiny, mobilenetv2.
The presets: focal (focal loss on the objectness), modern (CIoU loss and soft NMS besides).
Darknet's data sets: first tools/darknet2coco.py. Then: python tools/train.py configs/mine.py
"""

import sys

try:
    from mmdet_yolo2fl.own_data import (
        NETWORKS,
        PRESETS,
        TOO_SMALL,
        coco_datasets,
        make_config,
        shared_images,
        voc_datasets,
    )
except ImportError as error:
    if error.name == 'mmdet_yolo2fl':
        sys.exit(
            'The package is not installed in this Python: `source .venv/bin/activate` after '
            '`make env` in its checkout, or `pip install -e .` there'
        )
    sys.exit(str(error))

import argparse
import os
import shlex
from pathlib import Path

from mmengine.registry import init_default_scope

from mmdet_yolo2fl.datasets.annotation_check import NO_OBJECTS, SAID
from mmdet_yolo2fl.whole_files import write_text

BASES = Path(__file__).resolve().parents[1] / 'configs/_base_'


def make_parser():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('out', type=Path, help='the new config file')
    kind = parser.add_mutually_exclusive_group(required=True)
    kind.add_argument('--coco', type=Path, nargs=2, metavar=('TRAIN', 'VAL'), help='two JSON files')
    kind.add_argument(
        '--voc', nargs='+', metavar='ROOT', help="folder in VOC's layout, and two of its lists"
    )
    parser.add_argument(
        '--images',
        type=Path,
        nargs='+',
        help='with --coco: folder of the images, or one for each file (default: that of the file)',
    )
    parser.add_argument(
        '--network', choices=NETWORKS, default='darknet19', help='default: darknet19'
    )
    parser.add_argument('--preset', choices=PRESETS, default='modern', help='default: modern')
    parser.add_argument(
        '--size',
        type=int,
        nargs=2,
        default=(416, 416),
        metavar=('WIDTH', 'HEIGHT'),
        help='of the input, multiples of 32 (default: 416 416)',
    )
    parser.add_argument('--num-anchors', type=int, default=5, help='default: 5')
    parser.add_argument(
        '--keep-empty', action='store_true', help='train on images without objects, too'
    )
    parser.add_argument('--force', action='store_true', help='write over a config that is there')
    return parser


def check(args, parser):
    if args.out.suffix != '.py':
        parser.error(
            f'{args.out}: a config is a Python file, name it {args.out.with_suffix(".py")}'
        )
    if args.out.exists() and not args.force:
        parser.error(f'{args.out} is there already: another name, or --force')
    if min(args.size) < 32 or any(side % 32 for side in args.size):
        parser.error(f'--size must be multiples of 32, got {args.size[0]} {args.size[1]}')
    if args.voc and len(args.voc) not in (1, 3):
        parser.error('--voc takes the folder, or the folder and the names of two lists')
    if args.images and (args.voc or len(args.images) > 2):
        parser.error('--images takes one or two folders, and goes with --coco')


def datasets(args):
    if args.voc:
        root, *lists = args.voc
        return voc_datasets(Path(root), *(lists or ('train', 'val')))
    images = args.images or [file.parent for file in args.coco]
    return coco_datasets(*args.coco, images[0], images[-1])


def main(args=None):
    parser = make_parser()
    args = parser.parse_args(args)
    check(args, parser)
    init_default_scope('mmdet')
    try:
        bases = os.path.relpath(BASES, args.out.resolve().parent)
    except ValueError:  # on another drive of Windows
        bases = str(BASES)
    if args.out.resolve().parent != Path(os.path.abspath(args.out)).parent:
        bases = str(BASES)  # MMEngine does not find the way back through a link
    try:
        found = datasets(args)
        text, skipped, small = make_config(
            found,
            Path(bases).as_posix(),
            args.network,
            tuple(args.size),
            args.num_anchors,
            args.preset,
            args.keep_empty,
        )
        write_text(args.out, text)
    except (OSError, ValueError) as error:
        parser.error(str(error))
    counts = +found[-1]
    print(f'{args.out}: {len(counts)} classes, boxes for training:')
    for name, number in counts.items():
        print(f'{number:8d} {name}')
    for reason, number in skipped.items():
        said = SAID.get(reason.partition(': ')[2], 'will be left out')
        print(f'{said[0].upper()}{said[1:]}, {reason}: {number}')
    if f'training: {NO_OBJECTS}' in skipped:
        print('  (With --keep-empty they are trained on, too: on what is no object.)')
    if any(TOO_SMALL in reason for reason in skipped):
        print('  (A larger --size sees them, or photos cut into tiles.)')
    shared, validated = shared_images(found, args.keep_empty)
    if shared:
        print(
            f'{shared} of the {validated} validation images are trained on, too: its figures will '
            'be too good. Keep some images for it alone'
        )
    stride16 = f'{args.network}_stride16'
    if small > 0.05 and stride16 in NETWORKS:
        print(f'{small:.0%} of the boxes are smaller than a cell: try --network {stride16}')
    out, study = (shlex.quote(str(path)) for path in (args.out, Path('studies', args.out.name)))
    print(
        'Next:\n'
        f'  python tools/train.py {out}\n'
        f'  python tools/imbalance_report.py {out} --study {study}\n'
        '                         (counts the classes, and writes a comparison of losses)'
    )


if __name__ == '__main__':
    main()
