"""Draws what the losses of several runs looked at, one below the other.

python tools/compare_focal_loss.py focal=work_dirs/yolov2_fl plain=work_dirs/yolov2_ce

The runs are work directories of trainings with FocalLossAnalysisHook in their config:
custom_hooks = [dict(type='FocalLossAnalysisHook')]. Also prints the shares in the last quarter.
"""

import argparse
from pathlib import Path

import numpy as np

from mmdet_yolo2fl.focal_analysis import draw, load_histories
from mmdet_yolo2fl.tables import markdown_table
from mmdet_yolo2fl.whole_files import write_png

SHOWN = (
    'easy_negative_count',
    'easy_negative_loss',
    'hard_negative_loss',
    'easy_positive_loss',
    'hard_positive_loss',
    'easy_negative_gradient',
    'hard_negative_gradient',
    'easy_positive_gradient',
    'hard_positive_gradient',
    'pt_negative',
    'pt_positive',
)


def name_and_run(given):
    """Of [NAME=]RUN; either may have a = in it."""
    ends = [at for at, letter in enumerate(given) if letter == '=']
    splits = [('', given), *((given[:at], given[at + 1 :]) for at in ends)]
    whole = next((split for split in splits if Path(split[1]).is_dir()), None)
    return whole or given.rpartition('=')[::2]


def parse_args(args=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('runs', nargs='+', metavar='[NAME=]RUN', help='work directories')
    parser.add_argument(
        '--loss', help='which loss, such as bbox_head.loss_cls (default: the first of each run)'
    )
    parser.add_argument(
        '--out', type=Path, default=Path('work_dirs/focal_loss.png'), help='the picture'
    )
    args = parser.parse_args(args)
    given = [name_and_run(run) for run in args.runs]
    names = [name or Path(folder).name for name, folder in given]
    if len(set(names)) < len(names):  # such as seed_0, of several rows of a study
        names = [name or folder for name, folder in given]
    if len(set(names)) < len(names):
        parser.error(f'each run needs a name of its own, NAME=RUN; got {", ".join(names)}')
    args.histories = {}
    for name, (_, folder) in zip(names, given):
        file = Path(folder, 'focal_loss', 'history.json')
        if not file.is_file():
            parser.error(
                f'{file}: there is no such file. Train with '
                "custom_hooks = [dict(type='FocalLossAnalysisHook')] in the config"
            )
        try:
            found = load_histories(file)
        except ValueError as error:
            parser.error(str(error))
        loss = args.loss or next(iter(found))
        if loss not in found or not found[loss].iters:
            parser.error(f'{file} has no records of {loss!r}; it has {", ".join(found)}')
        args.histories[name] = found[loss]
    return args


def main(args=None):
    args = parse_args(args)
    write_png(args.out, draw(args.histories), dpi=80)
    table = {}
    for name, history in args.histories.items():
        last = len(history.iters) - max(1, len(history.iters) // 4)
        table[name] = {key: value[last:] for key, value in history.shares().items()}
    lines = [
        [key.replace('_', ' '), *(f'{_mean(shares[key]):.4f}' for shares in table.values())]
        for key in SHOWN
    ]
    print(markdown_table(['last quarter', *table], lines))
    print(f'\nSaved {args.out}')


def _mean(values):
    values = values[~np.isnan(values)]
    return values.mean() if len(values) else float('nan')


if __name__ == '__main__':
    main()
