"""Trains a detector: the command line of MMDetection's tools/train.py.

python tools/train.py configs/yolov2_fl.py
python tools/train.py configs/bccd/yolov2_fl.py --amp --cfg-options randomness.seed=1
python tools/train.py configs/bccd/yolov2_fl.py --resume
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
from contextlib import ExitStack

import torch.distributed
from mmdet.utils import setup_cache_size_limit_of_dynamo
from mmengine.registry import RUNNERS
from mmengine.runner import Runner

from mmdet_yolo2fl.checkpoints import (
    latest_whole_checkpoint,
    load_only_weights,
    verify_checkpoint,
    verify_initial_checkpoints,
    verify_resumable,
)
from mmdet_yolo2fl.detector import check_fit
from mmdet_yolo2fl.engine import work_dir_lock


def make_parser():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('config', help='config file')
    add_arguments(parser)
    parser.add_argument(
        '--amp',
        action='store_true',
        help='mixed precision: float16 on a GPU, bfloat16 on a CPU that has it',
    )
    parser.add_argument(
        '--auto-scale-lr',
        action='store_true',
        help="scale the learning rate from the config's base_batch_size to the mini-batch of all "
        'GPUs; accumulative_counts is not counted',
    )
    parser.add_argument(
        '--resume',
        nargs='?',
        const='auto',
        metavar='CHECKPOINT',
        help='go on from this checkpoint; without a name from the latest of the work directory',
    )
    return parser


def use_amp(cfg, parser):
    """Mixed precision by the wrapper that works with and without a GPU."""
    kind = cfg.optim_wrapper.get('type', 'OptimWrapper')
    kind = kind if isinstance(kind, str) else kind.__name__
    if kind not in ('OptimWrapper', 'AmpOptimWrapper', 'YOLOV2AmpOptimWrapper'):
        parser.error(f"--amp replaces OptimWrapper, but the config's optim_wrapper is a {kind}")
    cfg.optim_wrapper.type = 'YOLOV2AmpOptimWrapper'
    cfg.optim_wrapper.loss_scale = 'dynamic'


def verify_start(cfg, parser, auto):
    """Look through the checkpoint that training will start from, if there is one.

    ``auto``: that of the work directory; without one it starts as the config says.
    """
    load_only_weights()
    try:
        verify_initial_checkpoints(cfg.model)
        latest = latest_whole_checkpoint(cfg.work_dir) if auto else None
        if latest:
            cfg.load_from = str(latest)
        elif cfg.get('load_from'):
            if auto:
                cfg.resume = False
                print(f'Nothing to resume in {cfg.work_dir}: starts from {cfg.load_from}')
            verify = verify_resumable if cfg.get('resume') else verify_checkpoint
            cfg.load_from = str(verify(cfg.load_from))
    except (OSError, ValueError) as error:
        parser.error(str(error))


def check_start(runner, cfg, parser):
    """Refuse a checkpoint of another detector, before an hour is spent on it."""
    if cfg.get('load_from'):
        try:
            check_fit(runner.model, cfg.load_from, whole=bool(cfg.get('resume')))
        except ValueError as error:
            parser.error(str(error))


def main(args=None):
    parser = make_parser()
    args = parser.parse_args(args)
    setup_cache_size_limit_of_dynamo()
    cfg = load_config(args, parser, 'train_dataloader', 'train_cfg', 'optim_wrapper')
    if args.amp:
        use_amp(cfg, parser)
        if 'optim_wrapper.type' in (args.cfg_options or {}):
            parser.error('--amp sets optim_wrapper.type, and --cfg-options too: leave one out')
    if args.auto_scale_lr:
        if 'base_batch_size' not in cfg.get('auto_scale_lr', {}):
            parser.error(f'--auto-scale-lr: {args.config} has no auto_scale_lr.base_batch_size')
        cfg.auto_scale_lr.enable = True
        accumulated = cfg.optim_wrapper.get('accumulative_counts', 1)
        if accumulated > 1:
            print(
                f'Note: --auto-scale-lr compares mini-batches with auto_scale_lr.base_batch_size='
                f'{cfg.auto_scale_lr.base_batch_size}: accumulative_counts={accumulated} is not '
                'counted',
                file=sys.stderr,
            )
    auto = args.resume == 'auto' or (cfg.get('resume') and not cfg.get('load_from'))
    if args.resume:
        cfg.resume = True
        if not auto:
            cfg.load_from = args.resume
    verify_start(cfg, parser, auto)
    check_data(cfg, parser, 'train', 'val')
    with ExitStack() as stack:
        try:
            stack.enter_context(work_dir_lock(cfg.work_dir))
        except OSError as error:
            parser.error(str(error))
        runner = RUNNERS.build(cfg) if 'runner_type' in cfg else Runner.from_cfg(cfg)
        check_start(runner, cfg, parser)
        runner.train()
        # Not after an error: NCCL waits here for the other processes, which wait for this one.
        if torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()


if __name__ == '__main__':
    main()
