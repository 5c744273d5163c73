"""The sum in blocks equals the plain formula, element by element, under autograd."""

import importlib
import sys
import warnings
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmdet_yolo2fl.models.losses import BalancedFocalLoss, balanced_focal_loss, focal_sum

C = 5
# Not the function of that name.
balanced_focal_loss_module = importlib.import_module(BalancedFocalLoss.__module__)


def make(rows=37, seed=0, scale=3.0):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(rows, C, generator=generator) * scale
    labels = torch.randint(0, C + 3, (rows,), generator=generator).clamp(max=C)
    score = torch.rand(rows, generator=generator)
    soft = torch.rand(rows, C, generator=generator)
    return logits, labels, score, soft


def both(loss, logits, target, weight=None, avg_factor=None):
    """(value, gradient) of the module, and of the plain formula in float64."""
    x = logits.clone().requires_grad_()
    value = loss(x, target, weight, avg_factor)
    value.backward()
    y = logits.double().requires_grad_()
    dense = target
    if isinstance(target, tuple):
        dense = torch.nn.functional.one_hot(target[0], C + 1)[:, :C] * target[1][:, None]
    elif target.dim() == 1:
        dense = torch.nn.functional.one_hot(target, C + 1)[:, :C]

    def double(x):
        return x.double() if isinstance(x, torch.Tensor) else x

    plain = balanced_focal_loss(
        y,
        dense.double(),
        double(loss.gamma),
        double(loss.alpha),
        'sigmoid',
        loss.alpha_mode,
        double(loss.class_weight),
        loss.poly_epsilon,
    )
    if weight is not None:
        plain = plain * (weight if weight.dim() == 2 else weight[:, None]).double()
    expected = plain.sum() / (plain.numel() if avg_factor is None else avg_factor)
    expected.backward()
    return (value, x.grad), (expected.float(), y.grad.float())


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    """Several blocks, and a last one that is not full."""
    monkeypatch.setattr(focal_sum, 'BLOCK', 8 * C)


@pytest.mark.parametrize('problem', ['no Triton', 'old GPU', 'no compiler', None])
def test_whether_triton_works_is_found_out_once(monkeypatch, problem):
    """A GPU is made believe: this is about who is asked."""
    launched = []

    def launch(*args):
        if problem == 'no compiler':
            raise RuntimeError('Failed to find C compiler')
        launched.append(args)

    capability = (6, 1) if problem == 'old GPU' else (9, 0)
    monkeypatch.setattr(focal_sum, 'find_spec', lambda _: None if problem == 'no Triton' else 1)
    monkeypatch.setattr(torch.cuda, 'get_device_capability', lambda device: capability)
    monkeypatch.setattr(torch.cuda, 'synchronize', lambda device: None)
    triton = SimpleNamespace(triton_focal_sum=launch)
    monkeypatch.setitem(sys.modules, 'mmdet_yolo2fl.models.losses.focal_triton', triton)
    device = torch.device('cpu')
    focal_sum.triton_works.cache_clear()
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter('always')
        works = [focal_sum.triton_works(device) for _ in range(2)]
    focal_sum.triton_works.cache_clear()
    assert works == [problem is None] * 2
    assert len(launched) == (problem is None)
    expected = {'old GPU': 'capability 7.0', 'no compiler': 'C compiler'}.get(problem)
    assert len(said) == (expected is not None)
    assert all(expected in str(warning.message) for warning in said)


@pytest.mark.parametrize('works', [True, False])
def test_where_triton_does_not_work_the_plain_formula_serves(monkeypatch, works):
    monkeypatch.setattr(balanced_focal_loss_module, 'triton_works', lambda device: works)
    on_gpu = SimpleNamespace(
        device=torch.device('cuda', 0), is_cuda=True, dtype=torch.float16, numel=lambda: 5
    )
    assert BalancedFocalLoss()._sums_in_blocks(on_gpu, None) == works
    # A CPU is not asked.
    assert BalancedFocalLoss()._sums_in_blocks(torch.zeros(2, C), None)


ARGUMENTS = [
    dict(),
    dict(gamma=0.0, alpha=None),
    dict(gamma=0.5),
    dict(gamma=1.0, alpha=0.75),
    dict(gamma=3.3, alpha=0.6, alpha_mode='uniform'),
    dict(alpha=[0.1, 0.2, 0.3, 0.4, 0.5]),
    dict(alpha=[0.1, 0.2, 0.3, 0.4, 5.0], alpha_mode='uniform'),
    dict(class_weight=[1.0, 2.0, 0.0, 7.0, 0.5]),
    dict(poly_epsilon=1.5, class_weight=[1.0, 2.0, 0.0, 7.0, 0.5]),
    dict(poly_epsilon=-0.5, gamma=0.0, alpha=None),
]


@pytest.mark.parametrize('arguments', ARGUMENTS, ids=str)
@pytest.mark.parametrize('kind', ['labels', 'scores', 'soft', 'hard'])
@pytest.mark.parametrize('weighted', [None, 'row', 'element'])
def test_equals_the_plain_formula(arguments, kind, weighted):
    logits, labels, score, soft = make()
    target = dict(labels=labels, scores=(labels, score), soft=soft, hard=(soft > 0.8).float())[kind]
    weight = None if weighted is None else soft.flip(0) * 2
    weight = weight[:, 0] if weighted == 'row' else weight
    loss = BalancedFocalLoss(use_sigmoid=True, **arguments)
    for avg_factor in (None, 13.0):
        found, expected = both(loss, logits, target, weight, avg_factor)
        for one, other in zip(found, expected):
            torch.testing.assert_close(one, other, rtol=2e-5, atol=1e-6)


@settings(max_examples=60, deadline=None)
@given(
    logits=st.lists(st.floats(-60, 60, width=32), min_size=C, max_size=C),
    label=st.integers(0, C),
    gamma=st.sampled_from([0.0, 0.25, 1.0, 2.0, 5.0]),
    alpha=st.floats(0, 1),
)
def test_any_logits(logits, label, gamma, alpha):
    loss = BalancedFocalLoss(use_sigmoid=True, gamma=gamma, alpha=alpha)
    found, expected = both(loss, torch.tensor([logits]), torch.tensor([label]))
    for one, other in zip(found, expected):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize('dtype', [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize('gamma', [0.0, 0.3, 2.0])
def test_finite_at_the_ends(dtype, gamma):
    logits = torch.tensor([[1e4, -1e4, 0.0, 90.0, -90.0]] * 6, dtype=dtype).requires_grad_()
    for target in (torch.arange(6), torch.rand(6, C), torch.eye(6)[:, :C]):
        logits.grad = None
        value = BalancedFocalLoss(use_sigmoid=True, gamma=gamma)(logits, target)
        value.backward()
        assert value.dtype == torch.float32 and value.isfinite()
        assert logits.grad.dtype == dtype and logits.grad.isfinite().all()


def test_half_precision_sums_in_float32():
    """A sum of many small terms, which float16 would stop adding at 2048."""
    logits = torch.full((20000, C), 0.0, dtype=torch.float16)
    loss = BalancedFocalLoss(use_sigmoid=True, gamma=0, alpha=None)
    value = loss(logits, torch.full((20000,), C), avg_factor=1.0)
    assert value.item() == pytest.approx(20000 * C * 0.693147, rel=1e-4)


def test_three_dimensions_and_views():
    """(N, S, C) slices of a larger map, with the weight of a row expanded, as YOLO heads pass."""
    generator = torch.Generator().manual_seed(1)
    maps = torch.randn(2, 9, 5 + C, generator=generator).requires_grad_()
    labels = torch.randint(0, C + 1, (2, 9), generator=generator)
    weight = torch.rand(2, 9, generator=generator)
    loss = BalancedFocalLoss(use_sigmoid=True)
    loss(maps[..., 5:], labels, weight[..., None].expand(2, 9, C), avg_factor=3.0).backward()
    found, maps.grad = maps.grad, None
    plain = BalancedFocalLoss(use_sigmoid=True, reduction='none')
    (plain(maps[..., 5:], labels, weight).sum() / 3).backward()
    torch.testing.assert_close(found, maps.grad)


def test_backward_twice_over_the_same_graph():
    logits, labels, *_ = make()
    logits.requires_grad_()
    value = BalancedFocalLoss(use_sigmoid=True)(logits, labels)
    (first,) = torch.autograd.grad(value, logits, retain_graph=True)
    (second,) = torch.autograd.grad(2 * value, logits)
    torch.testing.assert_close(second, 2 * first)


def test_weights_that_learn_take_the_plain_way():
    logits, labels, *_ = make()
    weight = torch.ones(len(logits), requires_grad=True)
    BalancedFocalLoss(use_sigmoid=True)(logits, labels, weight).backward()
    assert (weight.grad > 0).all()


@pytest.mark.parametrize('kind', ['indices', 'soft'])
def test_a_second_derivative_is_refused_and_is_there_without_the_sum(kind):
    logits, labels, _, soft = make()
    target = labels if kind == 'indices' else soft
    loss = BalancedFocalLoss(use_sigmoid=True, gamma=2.0, alpha=0.25)
    x = logits.clone().requires_grad_()
    with pytest.raises(RuntimeError, match="no second derivative.*reduction_override='none'"):
        torch.autograd.grad(loss(x, target), x, create_graph=True)
    (grad,) = torch.autograd.grad(
        loss(x, target, reduction_override='none').sum(), x, create_graph=True
    )
    grad.square().sum().backward()
    assert x.grad.abs().sum() > 0


def test_float64_has_second_derivatives():
    logits, labels, *_ = make(rows=4)
    logits = logits.double().requires_grad_()
    loss = BalancedFocalLoss(use_sigmoid=True, gamma=2)
    assert torch.autograd.gradgradcheck(lambda x: loss(x, labels[:4]), (logits,))


def test_memory_beside_the_logits(monkeypatch):
    """The forward pass makes nothing of the logits' size, the backward pass the gradient alone."""
    monkeypatch.setattr(focal_sum, 'BLOCK', 1 << 12)
    logits = torch.randn(20000, C).requires_grad_()
    labels = torch.full((20000,), C)
    labels[::50] = 1
    loss = BalancedFocalLoss(use_sigmoid=True)
    size = logits.numel() * 4

    def peak(function):
        from torch.profiler import ProfilerActivity, profile

        with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as prof:
            result = function()
        now = largest = 0
        for event in prof.profiler.kineto_results.events():
            if event.name() == '[memory]':
                now += event.nbytes()
                largest = max(largest, now)
        return largest, result

    forward, value = peak(lambda: loss(logits, labels))
    backward, _ = peak(value.backward)
    assert forward < 0.6 * size  # labels have 8 bytes for the 4 * C of a row
    assert backward < 1.6 * size
    plain, _ = peak(lambda: BalancedFocalLoss(reduction='none')(logits, labels))
    assert plain > 3 * size  # so the measurement does see memory


def test_class_gradients_are_those_of_autograd():
    logits, labels, score, soft = make()
    for target, given_score in ((labels, None), (labels, score), (soft, None)):
        loss = BalancedFocalLoss(use_sigmoid=True, alpha=0.3)
        x = logits.clone().requires_grad_()
        loss(x, target if given_score is None else (target, given_score), avg_factor=1.0).backward()
        label = target
        if target.dim() == 1:
            label = torch.nn.functional.one_hot(target, C + 1)[:, :C].float()
            if given_score is not None:
                label = label * given_score[:, None]
        positive, negative = focal_sum.class_gradients(logits, target, loss.terms, given_score)
        torch.testing.assert_close(positive, (x.grad.abs() * label).sum(0))
        torch.testing.assert_close(negative, (x.grad.abs() * (1 - label)).sum(0))
