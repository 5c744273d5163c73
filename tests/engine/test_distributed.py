"""Two processes with half of a batch each do what one does with all of it."""

import numpy as np
import torch
from ddp_worker import build_model, look_at, losses_and_gradients, share

from mmdet_yolo2fl.focal_analysis import History, save_histories
from tests.processes import exit_codes, start


def test_two_processes_equal_one(tmp_path):
    assert exit_codes([start(share, rank, tmp_path) for rank in (0, 1)]) == [0, 0]
    first, second = [torch.load(tmp_path / f'rank_{rank}.pth') for rank in (0, 1)]

    whole = losses_and_gradients(build_model(), range(8))
    # Unequal shares: a normalizer that is not averaged across the ranks would show.
    num_pos = [x['losses']['num_pos'].item() for x in (first, second)]
    assert num_pos[0] != num_pos[1]
    assert whole['losses']['num_pos'] == sum(num_pos)

    # Each counts the images of both.
    assert first['seen'] == second['seen'] == whole['seen'] == 8

    for name, expected in whole['losses'].items():
        if 'loss' in name:
            mean = (first['losses'][name] + second['losses'][name]) / 2
            torch.testing.assert_close(mean, expected, rtol=1e-4, atol=0)
            assert first['losses'][name] != second['losses'][name]
    for name, expected in whole['gradients'].items():
        assert expected.abs().max() > 0, name
        for rank in (first, second):
            torch.testing.assert_close(rank['gradients'][name], expected, rtol=1e-4, atol=1e-6)


def test_a_resumed_run_looks_at_the_same_iterations_everywhere(tmp_path):
    """The history lies on the first machine alone; elsewhere they would wait for each other."""
    shape = 3, 2, 1
    history = History(0.9, iters=[6], tables=[np.ones(shape)], every=2)
    (tmp_path / 'of_0/focal_loss').mkdir(parents=True)
    save_histories(
        tmp_path / 'of_0/focal_loss/history.json',
        {'bbox_head.loss_obj': history, 'bbox_head.loss_cls': history},
    )
    assert exit_codes([start(look_at, rank, tmp_path) for rank in (0, 1)]) == [0, 0]
    first, second = [torch.load(tmp_path / f'looks_{rank}.pth') for rank in (0, 1)]
    assert first == second == ([12, 18], {'bbox_head.loss_obj': 1, 'bbox_head.loss_cls': 1})
