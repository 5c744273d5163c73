"""What `tools/train.py` and `tools/test.py` share: MMDetection's arguments, and its config."""

import argparse
import os
from pathlib import Path

import torch
from mmengine.config import Config, DictAction


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that MMDetection's tools for training and testing have in common."""
    parser.add_argument('--work-dir', help='for logs, checkpoints and metrics')
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=DictAction,
        metavar='KEY=VALUE',
        help='override settings of the config: optim_wrapper.optimizer.lr=0.01, or for a list '
        'key="[a,b]", key=a,b, key="[(a,b),(c,d)]" (with the quotes, without spaces)',
    )
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


def load_config(args: argparse.Namespace, parser: argparse.ArgumentParser) -> Config:
    """The config with the arguments of :func:`add_arguments` merged into it.

    Exits with a message of one line if there is no such config.

    Args:
        args (argparse.Namespace): With ``config``, and what :func:`add_arguments` adds.
        parser (argparse.ArgumentParser): Reports the errors.

    Returns:
        Config: Its ``work_dir`` is set: the argument, or the config's own, or
        ``work_dirs/<name of the config>``.
    """
    if not Path(args.config).is_file():
        parser.error(f'{args.config}: there is no such config file')
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    cfg = Config.fromfile(args.config)
    cfg.launcher = args.launcher
    if args.cfg_options:
        cfg.merge_from_dict(args.cfg_options)
    if args.work_dir:
        cfg.work_dir = args.work_dir
    elif cfg.get('work_dir') is None:
        cfg.work_dir = str(Path('work_dirs', Path(args.config).stem))
    if args.launcher == 'pytorch' and not torch.cuda.is_available():
        _use_processor(cfg)
    return cfg


def _use_processor(cfg: Config) -> None:
    """Let several processes work together on a machine without a GPU.

    MMEngine's start-up takes a GPU for granted; it accepts a process group that is open already.
    """
    torch.distributed.init_process_group('gloo')
    cfg.setdefault('model_wrapper_cfg', dict(type='MMDistributedDataParallel'))
    cfg.model_wrapper_cfg.setdefault('device_ids', None)
