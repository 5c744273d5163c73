"""Trains a detector: the command line of MMDetection's tools/train.py.

  python tools/train.py configs/yolov2_fl.py
  python tools/train.py configs/bccd/yolov2_fl.py --amp --cfg-options randomness.seed=1
  python tools/train.py configs/bccd/yolov2_fl.py --resume
"""

import argparse

from mmdet.utils import setup_cache_size_limit_of_dynamo
from mmengine.registry import RUNNERS
from mmengine.runner import Runner, find_latest_checkpoint

from mmdet_yolo2fl.checkpoints import verify_checkpoint
from mmdet_yolo2fl.command_line import add_arguments, load_config


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
        help="scale the learning rate from the config's base_batch_size to the actual batch size",
    )
    parser.add_argument(
        '--resume',
        nargs='?',
        const='auto',
        metavar='CHECKPOINT',
        help='go on from this checkpoint; without a name from the latest of the work directory',
    )
    return parser


def main(args=None):
    parser = make_parser()
    args = parser.parse_args(args)
    setup_cache_size_limit_of_dynamo()
    cfg = load_config(args, parser)
    if args.amp:
        cfg.optim_wrapper.type = 'YOLOV2AmpOptimWrapper'
        cfg.optim_wrapper.loss_scale = 'dynamic'
    if args.auto_scale_lr:
        if 'base_batch_size' not in cfg.get('auto_scale_lr', {}):
            parser.error(f'--auto-scale-lr: {args.config} has no auto_scale_lr.base_batch_size')
        cfg.auto_scale_lr.enable = True
    if args.resume:
        cfg.resume = True
        cfg.load_from = None if args.resume == 'auto' else args.resume
    start = cfg.get('load_from') or (find_latest_checkpoint(cfg.work_dir) if cfg.resume else None)
    if start:
        try:
            verify_checkpoint(start)
        except (OSError, ValueError) as error:
            parser.error(str(error))
    runner = RUNNERS.build(cfg) if 'runner_type' in cfg else Runner.from_cfg(cfg)
    runner.train()


if __name__ == '__main__':
    main()
