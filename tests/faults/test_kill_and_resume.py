"""A short version of kill_and_resume.py, and what a damaged last checkpoint leads to."""

import json
import os
import random

import pytest
import torch

from .jobs import digest, kill, run, tool, unfinished
from .kill_and_resume import kill_and_resume, markdown
from .long_run import slope

pytestmark = pytest.mark.skipif(not hasattr(os, 'fork'), reason='needs os.fork')


@pytest.mark.parametrize(
    'name', ['draw', 'darknet2mmdet', 'mmdet2darknet', 'darknet2coco', 'coco2darknet', 'predict']
)
def test_killed_and_started_again(jobs, tmp_path, name):
    seed = random.SystemRandom().randrange(10**6)
    (row,) = kill_and_resume(jobs, name, 1, tmp_path / name, seed)
    assert row['equal'] and not row['unfinished'], (seed, row)
    assert '| yes |' in markdown([row])


@pytest.fixture(scope='module')
def trained(jobs, tmp_path_factory):
    """A run of two epochs, and that of three with which others are compared."""
    folder = tmp_path_factory.mktemp('trained')
    seconds = run(lambda: train(jobs, folder / 'whole', 3), folder / 'log.txt')
    return folder, seconds


def train(jobs, out, epochs, *more):
    options = [f'train_cfg.max_epochs={epochs}', 'train_dataloader.num_workers=0', *more]
    args = ['--work-dir', out, '--resume', '--cfg-options', *options]
    tool('train', jobs.training, *args)


def weights(folder, epoch=3):
    return digest(folder)[f'epoch_{epoch}.pth']


def test_a_training_killed_and_resumed(jobs, trained):
    folder, seconds = trained
    out, log = folder / 'killed', folder / 'killed.txt'
    kill(lambda: train(jobs, out, 3), log, 0.7 * seconds)
    run(lambda: train(jobs, out, 3), log)
    assert weights(out) == weights(folder / 'whole') and not unfinished(out)


def scalars(folder):
    """Losses and learning rates of every iteration, without times."""
    (file,) = folder.glob('*/vis_data/scalars.json')
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    return [{k: v for k, v in row.items() if 'time' not in k} for row in rows]


def test_a_damaged_last_checkpoint(jobs, trained):
    """The one before is used, which the log says; and a seed makes two runs equal."""
    folder, _ = trained
    out, log = folder / 'damaged', folder / 'damaged.txt'
    run(lambda: train(jobs, out, 3), log)
    # Exact repeatability: the same weights and the same numbers in the log.
    assert weights(out) == weights(folder / 'whole')
    assert scalars(out) == scalars(folder / 'whole')

    last = out / 'epoch_3.pth'
    last.write_bytes(last.read_bytes()[:-1000])
    log.write_text('')
    run(lambda: train(jobs, out, 3), log)
    said = log.read_text()
    assert 'epoch_3.pth: damaged' in said and 'epoch_2.pth' in said.split('the one before')[1]
    assert weights(out) == weights(folder / 'whole')

    (out / 'last_checkpoint').write_bytes(b'\0\xff')  # then the newest that is whole
    log.write_text('')
    run(lambda: train(jobs, out, 3), log)
    assert 'the one before' in log.read_text() or 'epoch_3.pth' in log.read_text()

    for path in out.glob('epoch_*.pth'):
        path.write_bytes(b'')
    with pytest.raises(AssertionError, match='no checkpoint to resume is whole'):
        run(lambda: train(jobs, out, 3), log)


def test_a_resumed_checkpoint_deletes_nothing_elsewhere(jobs, trained):
    """A checkpoint says which file is outdated; a hostile one might name any."""
    folder, _ = trained
    out, log, precious = folder / 'hostile', folder / 'hostile.txt', folder / 'precious'
    best = 'default_hooks.checkpoint.save_best=coco/bbox_mAP'
    run(lambda: train(jobs, out, 1, best), log)
    precious.mkdir()
    (precious / 'file').write_text('keep me')
    path = out / 'epoch_1.pth'
    content = torch.load(path, weights_only=False)
    content['message_hub']['runtime_info'].update(best_ckpt=str(precious), best_score=-1.0)
    torch.save(content, path)
    run(lambda: train(jobs, out, 2, best), log)
    assert list(out.glob('best_coco_bbox_mAP_epoch_2.pth')), 'no better one: this shows nothing'
    assert (precious / 'file').read_text() == 'keep me'


def test_slope_of_memory():
    """Of a straight line its own; what happens first does not count."""
    rows = [(number, 500.0) for number in range(0, 1000, 50)]
    rows += [(number, 100 + number / 500) for number in range(1000, 5000, 50)]
    growth, mean, spread = slope(rows)
    assert growth == pytest.approx(2) and mean == pytest.approx(105.95)
    assert spread == pytest.approx(7.9)
