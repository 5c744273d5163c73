"""Random numbers that a resumed run draws as the uninterrupted one would have."""

import random
from functools import partial

import numpy as np
import torch
from mmdet.models.data_preprocessors import BatchSyncRandomResize
from mmdet.registry import HOOKS
from mmengine.dist import get_rank
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import nn

INPUT_SIZES = 'batch_sync_random_resize_input_sizes'


@HOOKS.register_module()
class RandomStateHook(Hook):
    """Make the random numbers of an epoch depend on the seed and the epoch alone.

    At the start of each epoch it seeds Python, NumPy and PyTorch (every device) from (the run's
    seed, the iterations done, the rank), and with them the data loader's workers, which MMEngine
    starts from the same seed in every epoch. Nothing is saved that could be stale: a state kept
    in the checkpoint would not know of the validation that follows it. The one thing that
    outlives an epoch, the input size at which MMDetection's ``BatchSyncRandomResize`` happens to
    be, travels with the checkpoint.

    A run resumed at the end of an epoch then equals the uninterrupted one, with random
    augmentation and multi-scale training too, if

    - the config sets ``randomness = dict(seed=...)``, since the order of the images is drawn
      before a checkpoint's seed is known; and
    - ``train_dataloader.persistent_workers`` is False, or ``num_workers`` is 0. Persistent
      workers are never seeded again: after a resume they draw other numbers than they would
      have (but none twice).

    Of an iteration-based loop, which is one long epoch, a resumed run draws new numbers. MMEngine
    starts the workers of such a loop anew, from the same seed, each time the images have been
    through: there take ``InfiniteSampler``, or ``persistent_workers=True``.
    """

    def before_train(self, runner: Runner) -> None:
        """Go on at the input size of the checkpoint, if the run was resumed."""
        sizes = runner.message_hub.runtime_info.get(INPUT_SIZES, [])
        for module, size in zip(_random_resizes(runner.model), sizes):
            module._input_size = size

    def before_train_epoch(self, runner: Runner) -> None:
        """Seed this process, and the workers about to start."""
        sequence = np.random.SeedSequence([runner.seed, runner.iter, get_rank()])
        # 31 bits leave room for the worker's number below the 32 that NumPy takes.
        seed = int(sequence.generate_state(1)[0] >> 1)
        random.seed(seed)
        np.random.seed(seed)
        torch.manual_seed(seed)
        loader = runner.train_dataloader
        if 'seed' in getattr(loader.worker_init_fn, 'keywords', {}):
            loader.worker_init_fn = partial(loader.worker_init_fn, seed=seed)

    def after_train_iter(self, runner: Runner, *args, **kwargs) -> None:
        """Note the input size where checkpoints take it from."""
        sizes = [module._input_size for module in _random_resizes(runner.model)]
        if sizes:
            runner.message_hub.update_info(INPUT_SIZES, sizes)


def _random_resizes(model: nn.Module) -> list[BatchSyncRandomResize]:
    return [module for module in model.modules() if isinstance(module, BatchSyncRandomResize)]
