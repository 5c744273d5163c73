"""The family under torch.compile, mixed precision, gradient accumulation and two processes."""

import copy

import pytest
import torch

from mmdet_yolo2fl.models import AutomatedFocalLoss, BalancedFocalLoss, EqualizedFocalLoss
from tests.processes import exit_codes, start

from . import focal_worker

FAMILY = {
    'plain': lambda: BalancedFocalLoss(gamma=1.5, alpha=[0.2, 0.5, 0.7]),
    'softmax': lambda: BalancedFocalLoss(use_sigmoid=False, alpha=None),
    'automated': AutomatedFocalLoss,
    'equalized': lambda: EqualizedFocalLoss(num_classes=3),
}


def batch(classes=4):
    torch.manual_seed(0)
    return torch.randn(60, 3), torch.randint(0, classes, (60,)), torch.rand(60)


def classes_of(name):
    return 3 if name == 'softmax' else 4


@pytest.mark.parametrize('name', FAMILY)
def test_compiled(name):
    torch._dynamo.reset()
    loss = FAMILY[name]()
    compiled = torch.compile(copy.deepcopy(loss), backend='aot_eager')
    pred, labels, weight = batch(classes_of(name))
    first, second = (pred.clone().requires_grad_() for _ in range(2))
    expected = loss(first, labels, weight, avg_factor=3.0)
    value = compiled(second, labels, weight, avg_factor=3.0)
    torch.testing.assert_close(value, expected, rtol=1e-5, atol=1e-6)
    expected.backward()
    value.backward()
    torch.testing.assert_close(second.grad, first.grad, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize('name', FAMILY)
def test_autocast(name):
    loss = FAMILY[name]()
    layer = torch.nn.Linear(3, 3)
    pred, labels, weight = batch(classes_of(name))
    with torch.autocast('cpu', torch.bfloat16):
        half = layer(pred)
        assert half.dtype == torch.bfloat16
        value = copy.deepcopy(loss)(half, labels, weight)
    assert value.dtype == torch.float32
    # What the half-precision layer gave, taken in full precision.
    expected = loss(half.detach().float(), labels, weight)
    torch.testing.assert_close(value, expected, rtol=1e-5, atol=1e-6)
    value.backward()
    assert layer.weight.grad.dtype == torch.float32 and layer.weight.grad.isfinite().all()


def test_accumulated_halves_equal_the_whole():
    pred, labels, weight = batch()
    loss = FAMILY['plain']()
    whole, parts = (pred.clone().requires_grad_() for _ in range(2))
    loss(whole, labels, weight, avg_factor=7.0).backward()
    for half in (slice(0, 30), slice(30, 60)):
        loss(parts[half], labels[half], weight[half], avg_factor=7.0).backward()
    torch.testing.assert_close(parts.grad, whole.grad)


def same(state, other):
    return all(torch.equal(value, other[key]) for key, value in state.items())


def test_two_processes_have_one_state(tmp_path):
    workers = [start(focal_worker.share, rank, tmp_path) for rank in range(2)]
    assert exit_codes(workers) == [0, 0]
    ranks, alone = (
        [torch.load(tmp_path / f'{what}_{r}.pth', weights_only=True) for r in range(2)]
        for what in ('rank', 'alone')
    )
    for name, (_, gammas) in focal_worker.train(slice(0, 40)).items():
        assert same(ranks[0][name][0], ranks[1][name][0])
        # Within an iteration Equalized's gradients are by the gamma of the rank's own half.
        rtol = 1e-5 if name == 'automated' else 0.1
        torch.testing.assert_close(ranks[0][name][1], gammas, rtol=rtol, atol=0)
        # It has not waited for the other, and tells it what it saw.
        assert same(alone[0][name], alone[1][name])
        assert not same(alone[0][name], FAMILY[name]().state_dict())


def test_state_does_not_move_without_training():
    for name in ('automated', 'equalized'):
        loss = FAMILY[name]().eval()
        before = copy.deepcopy(loss.state_dict())
        loss(*batch())
        assert all(torch.equal(v, before[k]) or v.isnan() for k, v in loss.state_dict().items())
