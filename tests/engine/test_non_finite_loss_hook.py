"""A loss that is not finite stops the run, and says which."""

import math

import pytest
import torch
from mmengine.hooks import Hook
from tiny_run import train

# The last convolution's biases of the first anchor: tx ty tw th to class0 class1.
OBJECTNESS, FIRST_CLASS = 4, 5


class Spoil(Hook):
    """Set a bias before an iteration (counted from 0), or after it."""

    def __init__(self, channel: int, value: float, before: int = -1, after: int = -1) -> None:
        self.channel, self.value, self.before, self.after = channel, value, before, after

    def spoil(self, runner) -> None:
        with torch.no_grad():
            runner.model.bbox_head.conv_pred.bias[self.channel :: 7] = self.value

    def before_train_iter(self, runner, batch_idx, data_batch=None) -> None:
        if runner.iter == self.before:
            self.spoil(runner)
            self.images = [sample.img_path for sample in data_batch['data_samples']]

    def after_train_iter(self, runner, *args, **kwargs) -> None:
        if runner.iter == self.after:
            self.spoil(runner)


@pytest.mark.parametrize(
    'channel, value, term, other',
    [
        (OBJECTNESS, math.nan, 'loss_obj = nan', 'loss_xy'),
        (FIRST_CLASS, math.nan, 'loss_cls = nan', 'loss_obj'),
        (3, math.inf, 'loss_wh = ', 'loss_cls'),
    ],
)
def test_names_term_iteration_and_images(tmp_path, channel, value, term, other):
    spoil = Spoil(channel, value, before=5)
    checkpoint = dict(by_epoch=False, interval=1)
    with pytest.raises(FloatingPointError) as error:
        train(tmp_path, watch=spoil, checkpoint=checkpoint)
    message = str(error.value)
    culprits, rest = message.split('. All terms: ')
    assert 'iteration 6 (epoch 2, batch 2)' in culprits
    assert term in culprits and other not in culprits
    assert other in rest
    assert all(image in rest for image in spoil.images)
    assert {path.name for path in tmp_path.glob('*.pth')} == {f'iter_{i}.pth' for i in range(1, 6)}
    assert (tmp_path / 'last_checkpoint').read_text().endswith('iter_5.pth')


def test_refuses_to_save_spoilt_weights(tmp_path):
    # The loss of the epoch's last iteration was finite; what its step left is not.
    with pytest.raises(FloatingPointError, match=r'bbox_head\.conv_pred\.bias .* iteration 8 '):
        train(tmp_path, watch=Spoil(FIRST_CLASS, math.inf, after=7))
    assert [path.name for path in tmp_path.glob('*.pth')] == ['epoch_1.pth']


def test_other_figures_may_be_nan(tmp_path):
    class Figure(Hook):
        priority = 'VERY_HIGH'

        def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:
            outputs['accuracy'] = torch.tensor(math.nan)

    assert train(tmp_path, epochs=1, watch=Figure()).iter == 4
