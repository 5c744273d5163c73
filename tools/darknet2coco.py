"""Turns a Darknet data set into COCO annotations, which MMDetection's CocoDataset reads.

python tools/darknet2coco.py data/obj.data data/mine

Writes data/mine/train.json and valid.json and prints the config lines for them. A bad line in a
list or label file is reported with file and line number, and then nothing is written;
--skip-bad leaves such lines out and counts them.
"""

import sys

try:
    from mmdet_yolo2fl.darknet.data_set import SPLITS, darknet_to_coco
except ImportError as error:
    if error.name == 'mmdet_yolo2fl':
        sys.exit(
            'The package is not installed in this Python: `source .venv/bin/activate` after '
            '`make env` in its checkout, or `pip install -e .` there'
        )
    sys.exit(str(error))

import argparse
import shlex


def make_parser():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('data', help='the .data file')
    parser.add_argument('out', help='folder for the annotation files')
    parser.add_argument('--splits', nargs='+', choices=SPLITS, default=SPLITS)
    parser.add_argument(
        '--image-root',
        help='image names are relative to it; default: the deepest folder that holds them all',
    )
    parser.add_argument(
        '--skip-bad', action='store_true', help='leave bad lines out, count them, write the rest'
    )
    return parser


def main(args=None):
    parser = make_parser()
    args = parser.parse_args(args)
    try:
        report, names, root, written = darknet_to_coco(
            args.data, args.out, args.splits, args.image_root, args.skip_bad
        )
    except (OSError, ValueError) as error:
        parser.error(str(error))
    print()
    for line in report.bad:
        print(line, file=sys.stderr)
    for kind, count in sorted(report.counts.items()):
        print(f'{count:8d} {kind}')
    if report.bad and not args.skip_bad:
        sys.exit(
            f'{len(report.bad)} bad lines, nothing written. Mend them, or leave them out with '
            '--skip-bad'
        )
    dataset = (
        "dict(type='CocoDataset', metainfo=dict(classes={names}),\n"
        "    data_root='', ann_file={ann_file!r}, data_prefix=dict(img={images!r}))"
    )
    print('\nFor a config:')
    files = [path.absolute() for path in written]
    images = f'{root.absolute().as_posix()}/'
    for path in files:
        print(dataset.format(names=tuple(names), ann_file=path.as_posix(), images=images))
    if len(files) == 2:
        paths = shlex.join(map(str, files))
        print(
            '\nOr write a whole one:\n  python tools/new_config.py configs/mine.py --coco '
            f'{paths} --images {shlex.quote(str(root.absolute()))}'
        )


if __name__ == '__main__':
    main()
