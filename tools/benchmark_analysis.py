"""Measures what FocalLossAnalysisHook costs: its share of the time of a real training.

python tools/benchmark_analysis.py configs/yolov2_fl.py \\
    --cfg-options train_dataloader.dataset.num_images=800 train_cfg.max_epochs=1

Trains the config with the hook, without evaluation, and adds up the time that the hook takes in
the iterations. The pictures at the end are not part of it; their time is printed too.
"""

import argparse
import tempfile
import time

import torch
from mmdet.registry import HOOKS
from mmengine.runner import Runner

from mmdet_yolo2fl.checkpoints import (
    load_only_weights,
    verify_checkpoint,
    verify_initial_checkpoints,
)
from mmdet_yolo2fl.command_line import add_config_options, read_config
from mmdet_yolo2fl.config_parts import begin_anew
from mmdet_yolo2fl.engine import FocalLossAnalysisHook


def now():
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


@HOOKS.register_module(force=True)
class TimedAnalysisHook(FocalLossAnalysisHook):
    """Adds up the seconds of its own work and of the epochs."""

    own = training = pictures = iterations = 0

    def before_train_epoch(self, runner):
        self.started = now()

    def after_train_epoch(self, runner):
        self.training += now() - self.started

    def before_train_iter(self, *args, **kwargs):
        start = time.perf_counter()
        super().before_train_iter(*args, **kwargs)
        self.own += time.perf_counter() - start

    def after_train_iter(self, *args, **kwargs):
        start = now() if self._looking else time.perf_counter()
        super().after_train_iter(*args, **kwargs)
        self.own += time.perf_counter() - start
        self.iterations += 1

    def _look(self, *args, **kwargs):
        start = now()
        super()._look(*args, **kwargs)
        self.own += now() - start

    def after_train(self, runner):
        start = now()
        super().after_train(runner)
        self.pictures = now() - start


def parse_args(args=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('config', help='config file')
    add_config_options(parser)
    parser.add_argument('--interval', type=int, default=50, help="the hook's (default: 50)")
    args = parser.parse_args(args)
    args.cfg = read_config(args, parser)
    begin_anew(args.cfg)
    load_only_weights()
    try:
        verify_initial_checkpoints(args.cfg.model)
        if args.cfg.get('load_from'):
            args.cfg.load_from = str(verify_checkpoint(args.cfg.load_from))
    except (OSError, ValueError) as error:
        parser.error(str(error))
    return args


def main(args=None):
    args = parse_args(args)
    cfg = args.cfg
    cfg.custom_hooks = [
        hook for hook in cfg.get('custom_hooks', []) if hook.type != 'FocalLossAnalysisHook'
    ]
    cfg.custom_hooks.append(dict(type='TimedAnalysisHook', interval=args.interval))
    cfg.val_dataloader = cfg.val_cfg = cfg.val_evaluator = None
    cfg.default_hooks.checkpoint.save_best = None
    # Windows cannot delete the log file, which MMEngine leaves open.
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as cfg.work_dir:
        runner = Runner.from_cfg(cfg)
        runner.train()
    (hook,) = (hook for hook in runner.hooks if isinstance(hook, TimedAnalysisHook))
    print(
        f'\n{hook.iterations} iterations in {hook.training:.1f} s; the hook, every '
        f'{args.interval}: {hook.own:.3f} s, {hook.own / hook.training:.3%}; pictures at the end '
        f'{hook.pictures:.1f} s'
    )


if __name__ == '__main__':
    main()
