"""Puts differences of rows of several studies side by side, in one table and one picture.

python tools/compare_studies.py docs/results/focal_or_not.csv
python tools/compare_studies.py mine.csv --metrics AP 'AP50 Platelets' --out work_dirs/again

A line of the list names a study's table, as tools/study.py writes it, one of its rows and the row
that it is compared with; other columns are words for the reader:

    loss,data,table,row,baseline
    focal,my cells,work_dirs/study/mine/mine.csv,focal,cross entropy
    focal,my streets,work_dirs/study/other/other.csv,focal,cross entropy

Writes <name>.md and <name>.png beside the list, or into another folder: the mean difference of
runs of the same seed with its 95 % interval. Tables are looked for from the list's folder.
"""

import argparse
from pathlib import Path

from mmdet_yolo2fl.study_comparisons import write_comparisons


def main(args=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('comparisons', type=Path, help='the list, a CSV file')
    parser.add_argument(
        '--metrics', nargs='+', help="columns of the tables, such as 'AP50 car' (default: AP50, AP)"
    )
    parser.add_argument('--out', type=Path, help="folder of the report (default: the list's)")
    args = parser.parse_args(args)
    try:
        print(write_comparisons(args.comparisons, args.metrics, args.out))
    except (OSError, ValueError) as error:
        parser.error(str(error))


if __name__ == '__main__':
    main()
