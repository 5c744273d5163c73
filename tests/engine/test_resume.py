"""A run that was killed in mid-epoch goes on as if it had not been."""

import functools
import os
import signal
from pathlib import Path

import pytest
from mmengine.hooks import Hook
from tiny_run import (
    ITERS_PER_EPOCH,
    NUM_IMAGES,
    SIZE,
    InterruptedRunError,
    assert_same_weights,
    train,
)

from tests.processes import exit_codes, start

# In the second of three epochs.
MIDDLE = ITERS_PER_EPOCH + 1


@pytest.fixture(scope='module')
def uninterrupted(tmp_path_factory):
    return train(tmp_path_factory.mktemp('uninterrupted'))


@pytest.mark.skipif(os.name != 'posix', reason='needs SIGKILL')
def test_killed_and_resumed_equals_uninterrupted(tmp_path, uninterrupted):
    hooks = [dict(type='KillHook', at_iter=MIDDLE)]
    run = start(functools.partial(train, tmp_path, hooks=hooks))
    assert exit_codes([run]) == [-signal.SIGKILL]
    last = Path((tmp_path / 'last_checkpoint').read_text())
    assert last == tmp_path / 'epoch_1.pth'

    resumed = train(tmp_path, resume=True)
    assert resumed.iter == uninterrupted.iter == 3 * ITERS_PER_EPOCH
    assert_same_weights(resumed.model, uninterrupted.model)


def interrupt_and_resume(work_dir, **kwargs):
    with pytest.raises(InterruptedRunError):
        train(work_dir, hooks=[dict(type='InterruptHook', at_iter=MIDDLE)], **kwargs)
    return train(work_dir, resume=True, **kwargs)


@pytest.mark.parametrize(
    'loader',
    [
        pytest.param(dict(num_workers=0), id='no worker'),
        pytest.param(dict(num_workers=2, persistent_workers=False), id='two workers'),
    ],
)
def test_resumed_equals_uninterrupted_with_random_augmentation(tmp_path, loader, uninterrupted):
    # Validation draws random numbers too, between the checkpoint and the next epoch.
    kwargs = dict(augment=True, resize=True, loader=loader, scores=[0.5])
    whole = train(tmp_path / 'whole', **kwargs)
    resumed = interrupt_and_resume(tmp_path / 'resumed', **kwargs)
    assert_same_weights(resumed.model, whole.model)
    with pytest.raises(AssertionError):  # the augmentation does something
        assert_same_weights(whole.model, uninterrupted.model)


def test_resumed_at_the_input_size_of_the_checkpoint(tmp_path):
    def size(runner):
        (resize,) = runner.model.data_preprocessor.batch_augments
        return resize._input_size

    class Sizes(Hook):
        def before_train_iter(self, runner, batch_idx, data_batch=None):
            if runner.iter == ITERS_PER_EPOCH:
                self.size = size(runner)

    first, second = Sizes(), Sizes()
    with pytest.raises(InterruptedRunError):
        stop = dict(type='InterruptHook', at_iter=MIDDLE)
        train(tmp_path, watch=first, resize=True, hooks=[stop])
    train(tmp_path, watch=second, resize=True, resume=True)
    assert first.size == second.size
    assert first.size != (SIZE, SIZE)


def test_each_epoch_draws_new_numbers_in_the_workers(tmp_path):
    seen = []

    class Watch(Hook):
        def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
            for image, sample in zip(data_batch['inputs'], data_batch['data_samples']):
                seen.append((sample.img_id, image.sum().item()))

    loader = dict(num_workers=1, persistent_workers=False)
    train(tmp_path, epochs=2, augment=True, loader=loader, watch=Watch())
    assert len(seen) == len(set(seen)) == 2 * NUM_IMAGES
