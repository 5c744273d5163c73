"""Evaluates a detector: the command line of MMDetection's tools/test.py.

python tools/test.py configs/yolov2_fl.py work_dirs/yolov2_fl/epoch_3.pth
python tools/test.py CONFIG CHECKPOINT --show-dir painted     draws predictions beside truths
python tools/test.py CONFIG CHECKPOINT --tta                  on flipped images too
"""

import sys

try:
    from mmdet_yolo2fl.command_line import add_arguments, check_data, load_config
except ImportError as error:
    if error.name == 'mmdet_yolo2fl':
        sys.exit(
            'The package is not installed in this Python: `source .venv/bin/activate` after '
            '`make env` in its checkout, or `pip install -e .` there'
        )
    sys.exit(str(error))

import argparse
import os
from collections import Counter
from pathlib import Path

import torch.distributed
from mmdet.engine.hooks.utils import trigger_visualization_hook
from mmdet.evaluation import DumpDetResults
from mmdet.utils import setup_cache_size_limit_of_dynamo
from mmengine.dist import is_main_process
from mmengine.registry import RUNNERS

from mmdet_yolo2fl.checkpoints import load_only_weights, verify_checkpoint
from mmdet_yolo2fl.detector import check_fit
from mmdet_yolo2fl.test_time_augmentation import use_tta


def make_parser():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('config', help='config file')
    parser.add_argument('checkpoint', help='checkpoint file; refused if it could run code')
    add_arguments(parser)
    parser.add_argument('--out', metavar='FILE.pkl', help='write the predictions to a pickle file')
    parser.add_argument('--show', action='store_true', help='show predictions in a window')
    parser.add_argument(
        '--show-dir', help='draw predictions into this folder, under work_dir/timestamp'
    )
    parser.add_argument('--wait-time', type=float, default=2, help='seconds for each, with --show')
    parser.add_argument(
        '--tta',
        action='store_true',
        help="test-time augmentation: the config's tta_model and tta_pipeline, or flips",
    )
    return parser


def testing(runner_type):
    """A runner that leaves the config of the training in the work directory as it is.

    MMEngine's writes its own there, with the options of the test, and tools/analyze.py would take
    it for that of the training.
    """
    return type('TestRunner', (runner_type,), dict(dump_config=lambda self: None))


def refuse_equal_names(dataset, parser):
    """MMDetection's hook draws each image into a file of its name, without its folder."""
    infos = (dataset.get_data_info(index) for index in range(len(dataset)))
    # An image may be there several times.
    names = Counter(map(os.path.basename, {info.get('img_path') or '' for info in infos}))
    twice = [name for name, times in names.items() if name and times > 1]
    if twice:
        parser.error(
            f'--show-dir: {len(twice)} names of images, as {twice[0]}, stand for several in '
            'different folders, whose pictures would overwrite each other: tools/predict.py keeps '
            'the folders apart'
        )


def main(args=None):
    parser = make_parser()
    args = parser.parse_args(args)
    if args.out and not args.out.endswith(('.pkl', '.pickle')):
        parser.error(f'--out {args.out}: the name must end with .pkl')
    setup_cache_size_limit_of_dynamo()
    cfg = load_config(args, parser, 'test_dataloader')
    load_only_weights()
    try:
        cfg.load_from = str(verify_checkpoint(args.checkpoint))
    except (OSError, ValueError) as error:
        parser.error(str(error))
    cfg.resume = False
    if args.show or args.show_dir:
        if 'visualization' not in cfg.get('default_hooks', {}):
            parser.error(
                '--show and --show-dir need the hook that draws in the config: '
                "default_hooks.visualization = dict(type='DetVisualizationHook')"
            )
        trigger_visualization_hook(cfg, args)
    check_data(cfg, parser, 'test')
    if args.tta:
        use_tta(cfg)
    kind = cfg.get('runner_type', 'Runner')
    kind = RUNNERS.get(kind) if isinstance(kind, str) else kind
    if kind is None:
        parser.error(f'there is no runner_type {cfg.runner_type!r}')
    runner = testing(kind).from_cfg(cfg)
    if args.show_dir and hasattr(runner.test_dataloader.dataset, 'get_data_info'):
        refuse_equal_names(runner.test_dataloader.dataset, parser)
    try:
        check_fit(runner.model, cfg.load_from)
    except ValueError as error:
        parser.error(str(error))
    if args.out and hasattr(runner.test_evaluator, 'dataset_prefixes'):
        parser.error(
            '--out: a MultiDatasetsEvaluator hands its results to the metrics of its data sets '
            'alone: test one data set at a time'
        )
    if args.out:
        unfinished = str(Path(args.out).with_suffix('.unfinished.pkl'))
        runner.test_evaluator.metrics.append(DumpDetResults(out_file_path=unfinished))
    metrics = runner.test()
    if args.out and is_main_process():
        Path(unfinished).replace(args.out)
    # Not after an error: NCCL waits here for the other processes, which wait for this one.
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
    return metrics


if __name__ == '__main__':
    main()
