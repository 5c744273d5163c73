"""Shows what a trained detector does well and what not: one HTML file, to be opened in a browser.

python tools/analyze.py work_dirs/yolov2_fl                        the folder of a training
python tools/analyze.py work_dirs/yolov2_fl --split val --score-thr 0.3
python tools/analyze.py --config CONFIG --checkpoint CHECKPOINT --out analysis
python tools/analyze.py work_dirs/yolov2_fl --predictions found.pkl    of tools/test.py --out
python tools/analyze.py work_dirs/study/mine                       all runs of a study, compared
python tools/analyze.py work_dirs/a work_dirs/b --out compared     two trainings, compared

For any detector of MMDetection with boxes. In the report: training curves, AP by class and by
size, precision and recall, the best threshold of each class, the confusion matrix, the kinds of
error, and the images on which most goes wrong. The same figures are left in summary.json and CSV
files. The predictions are kept: a second call with other thresholds needs no inference.
Of several runs each gets its report, in its own folder; --out then takes what compares them: the
kinds of error of each class, means over the seeds of a study, as a table and a picture.
"""

import sys

try:
    from mmdet_yolo2fl.command_line import add_config_options, read_config
    from mmdet_yolo2fl.config_parts import type_name
except ImportError as error:
    if error.name == 'mmdet_yolo2fl':
        sys.exit(
            'The package is not installed in this Python: `source .venv/bin/activate` after '
            '`make env` in its checkout, or `pip install -e .` there'
        )
    sys.exit(str(error))

import argparse
import copy
from pathlib import Path

import numpy as np
from mmengine.device import get_device
from mmengine.registry import DefaultScope
from mmengine.runner import Runner
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from mmdet_yolo2fl.analysis.comparison import write_comparison
from mmdet_yolo2fl.analysis.curves import best_thresholds, class_curves
from mmdet_yolo2fl.analysis.evaluation import evaluate
from mmdet_yolo2fl.analysis.pictures import picture
from mmdet_yolo2fl.analysis.predictions import (
    fingerprint,
    flatten,
    predict,
    read_predictions,
    save_predictions,
)
from mmdet_yolo2fl.analysis.report import write_report
from mmdet_yolo2fl.analysis.run_folder import (
    find_checkpoint,
    find_config,
    find_runs,
    split_of,
)
from mmdet_yolo2fl.analysis.summary import image_names, summarize, write_tables
from mmdet_yolo2fl.analysis.training_log import read_training_log
from mmdet_yolo2fl.analysis.truths import load_truths
from mmdet_yolo2fl.analysis.worst_images import image_table, worst_images
from mmdet_yolo2fl.checkpoints import load_only_weights, verify_checkpoint
from mmdet_yolo2fl.detector import load_detector
from mmdet_yolo2fl.evaluators import evaluators
from mmdet_yolo2fl.inference import reading_flag
from mmdet_yolo2fl.whole_files import make_folder

DEFAULT_OUT = Path('work_dirs/compared')


def make_parser():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        'run', nargs='*', type=Path, help='work directory of a training, or one with several'
    )
    parser.add_argument('--config', help="default: the run's")
    parser.add_argument(
        '--checkpoint', help="default: the run's best_*.pth, or else its last; a study's last"
    )
    parser.add_argument(
        '--split',
        choices=('test', 'val'),
        help='of the config (default: test; of a training of a study val, as its figures)',
    )
    parser.add_argument(
        '--out',
        type=Path,
        help='result folder (default: RUN/analysis; of several folders work_dirs/compared)',
    )
    parser.add_argument(
        '--score-thr',
        type=float,
        help='least score, where boxes are counted and drawn (default: the best of each class)',
    )
    parser.add_argument(
        '--iou-thr', type=float, default=0.5, help='IoU of a box that is found (default: 0.5)'
    )
    parser.add_argument(
        '--num-images', type=int, default=12, help='how many images to show (default: 12)'
    )
    parser.add_argument(
        '--predictions', type=Path, metavar='FILE.pkl', help='of tools/test.py --out; no inference'
    )
    parser.add_argument('--device', help='such as cuda:0 or cpu; default: a GPU if there is one')
    add_config_options(parser)
    return parser


def check(args, parser):
    """Refuse what does not go together.

    Returns:
        list[Path]: The runs; none where a config is given instead.
    """
    if args.score_thr is not None and not 0 <= args.score_thr <= 1:
        parser.error(f'--score-thr must lie in 0..1, got {args.score_thr}')
    if not 0.1 < args.iou_thr < 1:
        parser.error(f'--iou-thr must lie between 0.1 and 1, got {args.iou_thr}')
    if args.num_images < 0:
        parser.error(f'--num-images must not be negative, got {args.num_images}')
    if not args.run and (not args.config or not (args.checkpoint or args.predictions)):
        parser.error(
            'name the folder of a training, or give --config and --checkpoint (or --predictions)'
        )
    runs = list(dict.fromkeys(run for folder in args.run for run in find_runs(folder)))
    given = [name for name in ('config', 'checkpoint', 'predictions') if getattr(args, name)]
    if given and len(runs) > 1:
        parser.error(f'--{given[0]} is of one run, not of {len(runs)}: {", ".join(map(str, runs))}')
    return runs


def complete(args, run=None, out=None):
    """The arguments for one run, or without one; what they leave open is the run's."""
    args = copy.copy(args)
    args.run = run
    args.split = args.split or ('test' if run is None else split_of(run))
    if run is not None:
        args.config = args.config or str(find_config(run))
        if not args.checkpoint and not args.predictions:
            args.checkpoint = str(find_checkpoint(run))
    args.out = out or (run or Path('work_dirs', Path(args.config).stem)) / 'analysis'
    return args


def build_loader(cfg, args):
    """The data loader of the split, with its data set."""
    loader = cfg.get(f'{args.split}_dataloader')
    if not loader:
        raise ValueError(f'{args.config}: has no {args.split}_dataloader')
    try:
        with DefaultScope.overwrite_default_scope('mmdet'):
            return Runner.build_dataloader(loader, seed=0)
    except FileNotFoundError as error:
        raise ValueError(
            f'{error}. The data of {args.config} are looked for from the present folder on: start '
            f'there, or use --cfg-options {args.split}_dataloader.dataset.data_root=...'
        ) from error


def find_predictions(cfg, args, loader, images):
    """Those of a file, those of an earlier call, or new ones; and the file that they are in."""
    if args.predictions:
        return read_predictions(args.predictions), args.predictions
    checkpoint = verify_checkpoint(args.checkpoint)
    name = fingerprint(cfg, checkpoint, args.split, images)
    kept = args.out / f'predictions_{args.split}_{name}.pkl'
    if kept.is_file():
        print(f'Predictions of an earlier call: {kept}')
        return read_predictions(kept), kept
    make_folder(args.out)
    load_only_weights()
    model, _ = load_detector(cfg, checkpoint)
    model.to(args.device or get_device())
    found = []
    columns = TextColumn('{task.description}'), BarColumn(), MofNCompleteColumn()
    with Progress(*columns, TimeRemainingColumn()) as progress:
        task = progress.add_task('Predicting', total=len(loader.dataset))
        for batch in predict(model, loader):
            found += batch
            progress.update(task, advance=len(batch))
    save_predictions(found, kept)
    return found, kept


def metric_option(evaluator, kind, key, default):
    """An option of the metric of a kind, if there is one and it says so."""
    found = next((metric for metric in evaluator if type_name(metric) == kind), {})
    return found.get(key) or default


def describe(args, cfg, dataset, source):
    """What stands in the head of the report."""
    where = getattr(dataset, 'ann_file', '')
    name = f'{type(dataset).__name__} {where}'.strip()
    facts = {
        'Run': str(args.run or Path(args.config).stem),
        'Config': args.config,
        'Checkpoint': str(args.checkpoint or '–'),
        'Data set': f'{name} ({args.split})',
        'Predictions': str(source),
    }
    if args.cfg_options:
        facts['Options'] = ', '.join(f'{key}={value}' for key, value in args.cfg_options.items())
    return facts


def analyze(args, cfg):
    """Everything; the report's path and the summary."""
    loader = build_loader(cfg, args)
    dataset, evaluator = loader.dataset, evaluators(cfg, args.split)
    truths = load_truths(dataset, evaluator)
    images = list(zip(truths.ids, truths.paths))
    predictions, source = find_predictions(cfg, args, loader, images)
    found = flatten(predictions, truths.ids, len(truths.classes))
    max_dets = metric_option(evaluator, 'CocoMetric', 'proposal_nums', (100, 300, 1000))
    # VOCMetric's own default is 11 points.
    has_voc = any(type_name(metric) == 'VOCMetric' for metric in evaluator)
    voc_mode = metric_option(evaluator, 'VOCMetric', 'eval_mode', '11points' if has_voc else 'area')
    print('Evaluating')
    evaluation = evaluate(truths, found, args.iou_thr, max_dets, voc_mode)
    matches, curves = evaluation.matches, class_curves(evaluation.matches)
    thresholds, text = best_thresholds(curves), 'the best threshold of each class'
    if args.score_thr is not None:
        thresholds, text = np.full(len(truths.classes), args.score_thr), f'{args.score_thr:g}'
    names = image_names(truths.paths, truths.ids)
    facts = describe(args, cfg, dataset, source)
    summary = summarize(evaluation, curves, thresholds, names)
    summary |= dict(facts=facts, voc_mode=voc_mode, threshold_text=text)
    backend = getattr(dataset, 'backend_args', None)
    flag = reading_flag(cfg, args.split)
    worst = worst_images(image_table(matches, thresholds), args.num_images)
    pictures = [
        picture(matches, thresholds, image, truths.paths[image], backend, flag)
        | summary['per_image'][image]
        | dict(reason=reason)
        for image, reason in worst
    ]
    summary['worst'] = [dict(name=p['name'], reason=p['reason']) for p in pictures]
    args.out.mkdir(parents=True, exist_ok=True)
    training = read_training_log(args.run) if args.run else ([], [])
    files = write_tables(args.out, summary, curves)
    write_report(args.out / 'report.html', summary, facts, curves, training, pictures)
    return [args.out / 'report.html', *files], summary


def show(summary):
    """The table of the classes, as the report has it."""

    def text(value, factor=1, digits=3):
        return '-' if value is None else f'{factor * value:.{digits}f}'

    print(f'{"class":20} {"truths":>7} {"AP":>6} {"AP50":>6} {"best threshold":>15} {"F1":>6}')
    for row in summary['classes']:
        print(
            f'{row["name"][:20]:20} {row["truths"]:7} {text(row["ap"], 100, 1):>6} '
            f'{text(row["ap50"], 100, 1):>6} {text(row["best_threshold"]):>15} '
            f'{text(row["f1"]):>6}'
        )
    print(
        f'{"all":20} {summary["truths"]:7} {text(summary["ap"], 100, 1):>6} '
        f'{text(summary["ap50"], 100, 1):>6}'
    )


def analyze_all(args, parser, runs):
    """Every run, each with its report, and their comparison; what fails is named.

    Returns:
        dict[Path, dict]: The summaries of the runs.
    """
    summaries, failed = {}, []
    for number, run in enumerate(runs, 1):
        print(f'{run} ({number} of {len(runs)})')
        try:
            of_run = complete(args, run)
            files, summaries[run] = analyze(of_run, read_config(of_run, parser))
            print(files[0])
        # Whatever is wrong with one must not cost the others.
        except (Exception, SystemExit) as error:
            print(f'Left out: {type(error).__name__}: {error}', file=sys.stderr)
            failed.append(run)
    if not summaries:
        parser.error('none of the runs could be analyzed; the reasons are above')
    # A single folder holds them all, as that of a study.
    folder = args.out or (args.run[0] / 'analysis' if len(args.run) == 1 else DEFAULT_OUT)
    text, files = write_comparison(folder, summaries)
    print(f'\n{text}\n\nLook at {files[2]}; beside it {files[0].name} and {files[1].name}')
    if failed:
        sys.exit(f'Left out: {", ".join(map(str, failed))}; the reasons are above')
    return summaries


def main(args=None):
    parser = make_parser()
    args = parser.parse_args(args)
    try:
        runs = check(args, parser)
        if len(runs) > 1:
            return analyze_all(args, parser, runs)
        args = complete(args, *runs, out=args.out)
        files, summary = analyze(args, read_config(args, parser))
    except (OSError, ValueError) as error:
        parser.error(str(error))
    except KeyboardInterrupt:
        sys.exit('Broken off; what was running has written nothing.')
    show(summary)
    others = ', '.join(path.name for path in files[1:])
    print(f'Open {files[0]} in a browser; beside it {others}')
    return summary


if __name__ == '__main__':
    main()
