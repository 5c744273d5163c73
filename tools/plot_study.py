"""Draws the tables of tools/study.py anew: no runs are needed, only the CSV files.

python tools/plot_study.py docs/results/bccd_losses.csv --baseline 'cross entropy'
python tools/plot_study.py docs/results/bccd_final.csv --baseline YOLOX-tiny --out work_dirs/again

Writes <name>.md and <name>.png beside <name>.csv, or into another folder, with the learning curves
of <name>_curves.csv. The second command compares every row with another baseline than the study's.
Of several runs' kinds of error, as tools/analyze.py counts them, it draws the table too:

python tools/plot_study.py docs/results/bccd_final_errors.csv
"""

import argparse
from pathlib import Path

from mmdet_yolo2fl.analysis.comparison import is_error_table, write_again
from mmdet_yolo2fl.study_figure import write_report
from mmdet_yolo2fl.study_tables import read_csv


def main(args=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('tables', nargs='+', type=Path, help='CSV files')
    parser.add_argument('--baseline', help='the row that the others are compared with')
    parser.add_argument(
        '--metrics',
        nargs='+',
        help="columns, such as 'AP50 Platelets' (default: AP50, AP, and AP50 by class)",
    )
    parser.add_argument('--out', type=Path, help="folder of the report (default: the table's)")
    args = parser.parse_args(args)
    for table in args.tables:
        if not table.is_file():
            parser.error(f'{table}: there is no such table')
        try:
            if is_error_table(table):
                print(f'{table}\n\n{write_again(table, args.out)}\n')
                continue
            rows = {result['row'] for result in read_csv(table)}
            if args.baseline and args.baseline not in rows:
                parser.error(f'--baseline: {table} has no {args.baseline!r}; it has {sorted(rows)}')
            print(f'{table}\n\n{write_report(table, args.baseline, args.metrics, args.out)}\n')
        except ValueError as error:
            parser.error(str(error))


if __name__ == '__main__':
    main()
