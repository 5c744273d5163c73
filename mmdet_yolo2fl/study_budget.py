"""What a budget of images or minutes means for a config."""

import copy
import math
import time
from contextlib import suppress
from pathlib import Path

from mmdet.registry import DATASETS
from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmengine.runner import Runner

from .config_parts import as_list, type_name
from .whole_files import write_text


def within_budget(config: Config, budget: dict, folder: Path) -> Config:
    """The config with as many epochs as the budget buys, its schedule stretched with them.

    Args:
        config (Config): By epochs.
        budget (dict): ``images`` (seen in training) or ``minutes`` (of training on this machine,
            without evaluation; a few iterations are timed first).
        folder (Path): Where the number of epochs is kept for a resumed run.

    Raises:
        ValueError: If it buys less than half an epoch: one would be another budget.
    """
    if not budget:
        return config
    kept = folder / 'epochs'
    if kept.is_file():
        return with_epochs(config, int(kept.read_text()))
    with DefaultScope.overwrite_default_scope('mmdet'):
        images = len(DATASETS.build(config.train_dataloader.dataset))
    if 'images' in budget:
        epochs = budget['images'] / images
    else:
        iterations = math.ceil(images / config.train_dataloader.batch_size)
        epochs = 60 * budget['minutes'] / (_seconds_an_iteration(config, folder) * iterations)
    if epochs < 0.5:
        raise ValueError(
            f'{folder}: a budget of {budget} buys {epochs:.2g} epochs of {images} images, less '
            'than half of one: give more, or let an epoch be a part of the images (`indices`)'
        )
    epochs = max(1, round(epochs))
    write_text(kept, str(epochs))
    return with_epochs(config, epochs)


def with_epochs(config: Config, epochs: int) -> Config:
    """Set the epochs; what counts epochs moves along: schedulers, evaluations, when YOLOX and
    RTMDet change their augmentation, and when an average of the weights begins."""
    factor = epochs / config.train_cfg.max_epochs
    config.train_cfg.max_epochs = epochs
    # As many evaluations as before, the last one at the end.
    interval = config.train_cfg.get('val_interval', 1)
    config.train_cfg.val_interval = max(1, round(interval * factor))
    _scale(config.train_cfg, ('val_begin',), factor)
    if config.train_cfg.get('dynamic_intervals'):
        config.train_cfg.dynamic_intervals = [
            (max(1, round(begin * factor)), every)
            for begin, every in config.train_cfg.dynamic_intervals
        ]
    schedulers = []
    for scheduler in as_list(config.get('param_scheduler')):
        if scheduler.get('by_epoch', True):
            begin = scheduler.get('begin', 0)
            _scale(scheduler, ('begin', 'end', 'step_size'), factor)
            for key in ('T_max', 'total_steps'):  # from its own beginning to its own end
                if scheduler.get(key):
                    end = round((begin + scheduler[key]) * factor)
                    scheduler[key] = max(1, end - scheduler.get('begin', 0))
            for key in ('milestones', 'periods'):
                if scheduler.get(key):
                    scheduler[key] = [max(1, round(epoch * factor)) for epoch in scheduler[key]]
            if type_name(scheduler).startswith('Exponential'):  # by which each epoch multiplies
                scheduler.gamma **= 1 / factor
            if scheduler.get('end') and scheduler.get('begin', 0) >= scheduler.end:
                continue  # too short for a single epoch
        schedulers.append(scheduler)
    config.param_scheduler = schedulers or None
    for hook in config.get('custom_hooks') or ():
        _scale(hook, ('switch_epoch', 'num_last_epochs', 'begin_epoch'), factor)
    return config


def _scale(options: dict, keys: tuple[str, ...], factor: float) -> None:
    for key in keys:
        if options.get(key):
            options[key] = max(1, round(options[key] * factor))


class _Enough(Exception):  # noqa: N818, no error
    """Has been timed."""


def _seconds_an_iteration(config: Config, folder: Path) -> float:
    """The mean of 8 iterations after the first 4, with the loading of their batches; of more, where
    more workers have batches ready at the start.

    They are those of the beginning of the real training, by its own loop: hooks and multi-scale
    steps ask how long it will last. Where sizes are drawn, one is drawn for each iteration, of 24.
    """
    config = copy.deepcopy(config)
    config.work_dir = str(folder / 'timing')
    config.resume = False
    config.val_dataloader = config.val_cfg = config.val_evaluator = None
    config.test_dataloader = config.test_cfg = config.test_evaluator = None
    config.param_scheduler = None
    loader = config.train_dataloader
    workers = loader.get('num_workers', 0)
    first = max(4, workers * (loader.get('prefetch_factor') or 2))
    iterations = max(8, workers)
    for step in (config.model.get('data_preprocessor') or {}).get('batch_augments') or ():
        if type_name(step) in ('BatchSyncRandomResize', 'DarknetBatchResize'):
            step.interval, iterations = 1, max(24, workers)
            if 'accumulative_counts' in step:
                step.accumulative_counts = 1
    config.default_hooks.checkpoint = None
    # The first visualizer of a name is that of the whole process: this one would get the curves.
    config.visualizer = dict(type='DetLocalVisualizer', name='timing', vis_backends=[])
    runner = Runner.from_cfg(config)
    ends = [time.perf_counter()]
    loop = runner.train_loop
    step = loop.run_iter

    def timed(*batch):
        step(*batch)
        ends.append(time.perf_counter())
        if len(ends) > first + iterations:
            raise _Enough

    loop.run_iter = timed
    with suppress(_Enough):  # a training of fewer iterations ends by itself
        runner.train()
    counted = ends[min(first, len(ends) - 2) :]
    return (counted[-1] - counted[0]) / (len(counted) - 1)
