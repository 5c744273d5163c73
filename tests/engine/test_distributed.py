"""Two processes with half of a batch each do what one does with all of it."""

import torch
from ddp_worker import build_model, losses_and_gradients, share

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
