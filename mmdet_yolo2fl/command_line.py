"""What `tools/train.py` and `tools/test.py` share: MMDetection's arguments, and its config."""

import argparse
import copy
import difflib
import os
import sys
from collections.abc import Collection
from pathlib import Path

import torch
from mmengine.config import Config, DictAction
from mmengine.device import get_device
from mmengine.device import utils as device_utils

from .config_parts import READ, as_list
from .datasets.annotation_check import SAID, check_annotations
from .evaluators import coco_files
from .study_budget import with_epochs


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that MMDetection's tools for training and testing have in common."""
    parser.add_argument('--work-dir', help='for logs, checkpoints and metrics')
    add_config_options(parser)
    parser.add_argument(
        '--launcher',
        choices=['none', 'pytorch', 'slurm', 'mpi'],
        default='none',
        help='who started the processes; dist_train.sh and dist_test.sh set it',
    )
    # torch.distributed.launch passes it by either name.
    parser.add_argument(
        '--local_rank', '--local-rank', type=int, default=0, help='set by launchers'
    )


def add_config_options(parser: argparse.ArgumentParser) -> None:
    """Add ``--cfg-options``."""
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=_KeyValueAction,
        metavar='KEY=VALUE',
        help='override settings of the config: optim_wrapper.optimizer.lr=0.01, or for a list '
        'key="[a,b]", key=a,b, key="[(a,b),(c,d)]" (with the quotes, without spaces)',
    )


class _KeyValueAction(DictAction):
    """MMEngine's, which says where the mistake is."""

    def __call__(self, parser, namespace, values, option_string=None):
        try:
            super().__call__(parser, namespace, values, option_string)
        except (ValueError, AssertionError) as error:
            parser.error(f'{option_string} takes KEY=VALUE, got {" ".join(values)} ({error})')
        # For a process of the same options; given twice, both count.
        earlier = getattr(namespace, f'raw_{self.dest}', [])
        setattr(namespace, f'raw_{self.dest}', [*earlier, *values])
        if not all(key and all(key.split('.')) for key in getattr(namespace, self.dest)):
            parser.error(f'{option_string} takes KEY=VALUE, got {" ".join(values)}')


def load_config(args: argparse.Namespace, parser: argparse.ArgumentParser, *needed: str) -> Config:
    """The config with the arguments of :func:`add_arguments` merged into it.

    Exits with a message if there is no such config, if it fails, or if an option does not fit it.

    Args:
        args (argparse.Namespace): With ``config``, and what :func:`add_arguments` adds.
        parser (argparse.ArgumentParser): Reports the errors.
        needed (str): As of :func:`read_config`.

    Returns:
        Config: Its ``work_dir`` is set: the argument, or the config's own, or
        ``work_dirs/<name of the config>``.
    """
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    cfg = read_config(args, parser, 'model', *needed)
    cfg.launcher = args.launcher
    if args.work_dir:
        cfg.work_dir = args.work_dir
    elif cfg.get('work_dir') is None:
        cfg.work_dir = str(Path('work_dirs', Path(args.config).stem))
    if args.launcher != 'none' and get_device() in ('cpu', 'mps'):
        if args.launcher != 'pytorch' or 'RANK' not in os.environ:
            parser.error(
                'without a GPU, start the processes with tools/dist_train.sh, tools/dist_test.sh '
                'or torchrun'
            )
        _use_processor(cfg)
    return cfg


def read_config(args: argparse.Namespace, parser: argparse.ArgumentParser, *needed: str) -> Config:
    """The config ``args.config`` with ``args.cfg_options`` merged into it.

    Exits with a message if there is no such config, if it fails, if an option does not fit it, or
    if it lacks what is needed.

    Args:
        args (argparse.Namespace): With ``config`` and ``cfg_options``.
        parser (argparse.ArgumentParser): Reports the errors.
        needed (str): Keys that must be dicts. Defaults to 'model' alone.
    """
    if not Path(args.config).is_file():
        parser.error(f'{args.config}: there is no such config file')
    try:
        cfg = Config.fromfile(args.config)
    # A config is a program, and may fail like any other.
    except (Exception, SystemExit) as error:
        parser.error(f'{args.config}: {type(error).__name__}: {error}')
    options = args.cfg_options or {}
    formerly = 'train_cfg.max_epochs' in options and (cfg.get('train_cfg') or {}).get('max_epochs')
    _refuse_misspelt_keys(cfg, options, parser)
    try:
        cfg.merge_from_dict(options)
    except (KeyError, TypeError, IndexError, AssertionError) as error:
        parser.error(f'--cfg-options does not fit {args.config}: {error}')
    for key in needed or ('model',):
        if not isinstance(cfg.get(key), dict):
            parser.error(f'{args.config}: has no {key}, or it is no dict')
    _refuse_bad_numbers(cfg, parser)
    if formerly and formerly != cfg.train_cfg.max_epochs:
        _tell_of_schedule(cfg, formerly, {key.split('.')[0] for key in options})
    avoid_mps()
    return cfg


def avoid_mps() -> None:
    """MMEngine would choose Apple's GPU, for which MMCV has no NMS: no test, no validation."""
    if get_device() == 'mps':
        print("On the CPU: MMCV has no NMS for Apple's GPU.")
        device_utils.DEVICE = 'cpu'


# What MMEngine, or PyTorch below it, takes for good, or refuses without its name.
POSITIVE = (
    'optim_wrapper.optimizer.lr', 'train_cfg.max_epochs', 'train_cfg.max_iters',
    'train_cfg.val_interval', 'train_dataloader.batch_size', 'val_dataloader.batch_size',
    'test_dataloader.batch_size', 'model.data_preprocessor.pad_size_divisor',
)  # fmt: skip


def _refuse_bad_numbers(cfg: Config, parser: argparse.ArgumentParser) -> None:
    for option in POSITIVE:
        value = cfg
        for key in option.split('.'):
            value = value.get(key) if isinstance(value, (Config, dict)) else None
        kinds = (int, float) if option.endswith('.lr') else int
        if value is not None and not (isinstance(value, kinds) and 0 < value < float('inf')):
            kind = 'number' if option.endswith('.lr') else 'integer'
            parser.error(f'{cfg.filename}: {option} must be a positive {kind}, got {value!r}')


def check_data(
    cfg: Config, parser: argparse.ArgumentParser, *splits: str, images: bool = True
) -> None:
    """Look through the annotations before a model is built; say what will be left out.

    Args:
        cfg (Config): With ``train_dataloader`` and so on.
        parser (argparse.ArgumentParser): Reports the errors.
        splits (str): Of 'train', 'val', 'test'; those that the config lacks are left out.
        images (bool): As of :func:`check_annotations`, and the sizes of those that a training does
            not load. Defaults to True.
    """
    for split in splits:
        dataset = (cfg.get(f'{split}_dataloader') or {}).get('dataset')
        try:
            # A training looks at those of its own images when it loads them.
            sizes = images and split != 'train'
            options = dict(images=images, sizes=sizes, by_coco=coco_files(cfg, split))
            skipped = check_annotations(dataset, **options) if dataset else {}
        except (OSError, ValueError) as error:
            parser.error(str(error))
        for what, count in sorted(skipped.items()):
            print(f'{split}_dataloader: {SAID.get(what, "left out")}: {count} {what}')


def _refuse_misspelt_keys(cfg: Config, options: dict, parser: argparse.ArgumentParser) -> None:
    """MMEngine adds an unknown key silently, and then nothing ever reads it; nor a variable, which
    is told."""
    known = READ.union(cfg)
    for option in options:
        key = option.split('.')[0]
        similar = difflib.get_close_matches(key, known, n=1, cutoff=0.8)
        if key not in known and similar:
            parser.error(f'--cfg-options: the config has no {key!r}; did you mean {similar[0]!r}?')
        if key in cfg and key not in READ | {'strategy', 'init_weights_for_test_or_val'}:
            print(
                f'Note: --cfg-options {option}: a variable of the config, of which its parts have '
                'been made already; it changes nothing. Change the parts, as '
                'train_cfg.max_epochs, or a config of your own',
                file=sys.stderr,
            )


def _tell_of_schedule(cfg: Config, formerly: int, given: Collection[str] = ()) -> None:
    """Its length is its own: MMEngine does not move it along with the epochs."""
    epochs = cfg.train_cfg.max_epochs
    moved = copy.deepcopy(cfg)
    moved.train_cfg.max_epochs = formerly
    try:
        moved = with_epochs(moved, epochs)
    except (AttributeError, OverflowError, TypeError):  # a schedule that MMEngine will refuse
        return
    options = []
    # What an option has changed is the user's.
    for key in ('param_scheduler', 'custom_hooks'):
        if key in given:
            continue
        parts, new = as_list(cfg.get(key)), as_list(moved.get(key))
        if len(new) < len(parts):
            options = [
                'nothing but a config of your own: a part of the schedule would be too short'
            ]
            break
        for number, (old, part) in enumerate(zip(parts, new)):
            place = key if isinstance(cfg[key], dict) else f'{key}.{number}'
            changed = (name for name in part if part[name] != old[name])
            options += [f'{place}.{name}={part[name]}'.replace(' ', '') for name in changed]
    if options:
        print(
            f'Note: train_cfg.max_epochs is {epochs} in place of {formerly}, but the schedule '
            f'keeps its length. What moves it along: {" ".join(options)}',
            file=sys.stderr,
        )


def _use_processor(cfg: Config) -> None:
    """Let several processes work together on a machine without a GPU.

    MMEngine's start-up takes a GPU for granted; it accepts a process group that is open already.
    """
    torch.distributed.init_process_group('gloo')
    cfg.setdefault('model_wrapper_cfg', dict(type='MMDistributedDataParallel'))
    cfg.model_wrapper_cfg.setdefault('device_ids', None)
    # As MMEngine's default wrapper has them.
    cfg.model_wrapper_cfg.setdefault('broadcast_buffers', False)
    unused = cfg.get('find_unused_parameters', False)
    cfg.model_wrapper_cfg.setdefault('find_unused_parameters', unused)
