import random
from types import SimpleNamespace

import numpy as np
import torch

from mmdet_yolo2fl.engine.hooks import random_state_hook


def test_another_start_or_rank_draws_other_numbers(monkeypatch):
    drawn, loader = set(), SimpleNamespace(worker_init_fn=None)
    for done, rank in ((0, 0), (8, 0), (0, 1)):
        monkeypatch.setattr(random_state_hook, 'get_rank', lambda rank=rank: rank)
        run = SimpleNamespace(seed=3, iter=done, epoch=0, train_dataloader=loader)
        random_state_hook.RandomStateHook().before_train_epoch(run)
        drawn.add((random.random(), np.random.rand(), torch.rand(()).item()))
    assert len({numbers for each in drawn for numbers in each}) == 9
