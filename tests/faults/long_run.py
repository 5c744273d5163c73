"""Trains 5,000 iterations at a tiny size and records the memory: it must stay where it is.

python tests/faults/long_run.py --out work_dirs/long_run
python tests/faults/long_run.py --out work_dirs/long_run --figure docs/memory.png

Everything of an everyday run takes part: images from the disk, augmentation, the hooks of
configs/yolov2_fl.py, a checkpoint and an evaluation every few epochs. Writes memory.csv (iteration
and resident memory in MB, every 50 iterations), memory.png and the figures of the last 80 %.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.runner import Runner

from mmdet_yolo2fl.engine import AtomicLocalBackend

CONFIG = Path(__file__).parents[2] / 'configs/yolov2_fl.py'
IMAGES, BATCH, SIZE = 64, 2, 64
EVERY = 50


class MemoryHook(Hook):
    """Notes the resident memory of this process, as Linux counts it."""

    def __init__(self) -> None:
        self.rows: list[tuple[int, float]] = []

    def after_train_iter(self, runner, *args, **kwargs) -> None:
        if (runner.iter + 1) % EVERY == 0:
            status = Path('/proc/self/status').read_text()
            resident = next(line for line in status.splitlines() if line.startswith('VmRSS'))
            self.rows.append((runner.iter + 1, int(resident.split()[1]) / 1024))


def make_config(out: Path, iterations: int) -> Config:
    """configs/yolov2_fl.py on images of 64 pixels, a twentieth as wide as Darknet-19."""
    cfg = Config.fromfile(CONFIG)
    cfg.work_dir = str(out)
    cfg.randomness = dict(seed=0)
    cfg.model.backbone.widen_factor = 0.0625
    cfg.model.neck.update(in_channels=(32, 64), out_channels=32, passthrough_channels=8)
    cfg.model.bbox_head.update(in_channels=64, feat_channels=32)
    for name, count in (('train', IMAGES), ('val', 16), ('test', 16)):
        loader = cfg[f'{name}_dataloader']
        loader.batch_size, loader.num_workers, loader.persistent_workers = BATCH, 0, False
        loader.dataset.update(
            num_images=count, image_size=(SIZE, SIZE), data_root=str(out / 'data')
        )
        for step in loader.dataset.pipeline:
            if step.type == 'Resize':
                step.scale = (SIZE, SIZE)
    # Straight to the end of the schedule; an evaluation and a checkpoint now and then.
    epochs = -(-iterations * BATCH // IMAGES)
    cfg.train_cfg.update(max_epochs=epochs, val_interval=20)
    cfg.default_hooks.checkpoint.update(interval=10)
    cfg.param_scheduler = None
    cfg.log_level = 'WARNING'
    return cfg


def slope(rows: list[tuple[int, float]], share: float = 0.8) -> tuple[float, float, float]:
    """MB for 1,000 iterations by least squares, mean and range of the last part of a run."""
    iterations, memory = np.array(rows[round(len(rows) * (1 - share)) :]).T
    return 1000 * np.polyfit(iterations, memory, 1)[0], memory.mean(), np.ptp(memory)


def draw(rows: list[tuple[int, float]], path: Path) -> None:
    figure = Figure(figsize=(8, 3.6), layout='constrained')
    axis = figure.subplots()
    axis.plot(*zip(*rows), color='tab:blue')
    axis.axvspan(0.2 * rows[-1][0], rows[-1][0], color='tab:green', alpha=0.07)
    growth, mean, spread = slope(rows)
    axis.set(
        title=f'Last 80 %: {mean:.0f} MB, {growth:+.2f} MB in 1,000 iterations, range {spread:.1f}',
        xlabel='iteration',
        ylabel='resident memory (MB)',
        ylim=(0, 1.2 * max(memory for _, memory in rows)),
        xlim=(0, rows[-1][0]),
    )
    axis.grid(alpha=0.3)
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(path.name + '.tmp')
    figure.savefig(unfinished, dpi=90, format='png')
    unfinished.replace(path)


def main(args=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--out', type=Path, default=Path('work_dirs/long_run'), help='folder')
    parser.add_argument('--iterations', type=int, default=5000, help='default: 5000')
    parser.add_argument('--figure', type=Path, help='default: memory.png in the folder')
    args = parser.parse_args(args)
    if args.iterations < 10 * EVERY:
        parser.error(f'--iterations must be at least {10 * EVERY}')
    torch.set_num_threads(1)
    hook = MemoryHook()
    runner = Runner.from_cfg(make_config(args.out, args.iterations))
    runner.register_hook(hook)
    runner.train()
    table = args.out / 'memory.csv'
    lines = ['iteration,resident_mb', *(f'{number},{memory:.2f}' for number, memory in hook.rows)]
    AtomicLocalBackend().put_text('\n'.join(lines) + '\n', table)
    draw(hook.rows, args.figure or args.out / 'memory.png')
    growth, mean, spread = slope(hook.rows)
    print(
        f'{hook.rows[-1][0]} iterations; of the last 80 %: mean {mean:.1f} MB, slope '
        f'{growth:+.3f} MB in 1,000 iterations, range {spread:.1f} MB. Saved {table}'
    )


if __name__ == '__main__':
    main()
