"""Losses that set their own gamma: against loops, saved and resumed."""

import io
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mmdet.registry import MODELS

import mmdet_yolo2fl  # noqa: F401
from mmdet_yolo2fl.models.losses import (
    BalancedFocalLoss,
    adaptive_focal_loss,
    balanced_focal_loss,
)
from mmdet_yolo2fl.models.losses.focal_sum import class_gradients

C = 3


def batches(number=6, rows=20, seed=0):
    generator = torch.Generator().manual_seed(seed)
    for _ in range(number):
        logits = torch.randn(rows, C, generator=generator) * 2
        labels = torch.randint(0, C + 4, (rows,), generator=generator).clamp(max=C)
        yield logits, labels, torch.rand(rows, generator=generator)


def automated(**kwargs):
    return MODELS.build(dict(type='AutomatedFocalLoss', **kwargs)).train()


def equalized(**kwargs):
    return MODELS.build(dict(type='EqualizedFocalLoss', num_classes=C, **kwargs)).train()


@pytest.mark.parametrize('over', ['positives', 'all'])
@pytest.mark.parametrize('dense', [False, True])
def test_gamma_follows_the_running_mean(over, dense):
    loss = automated(over=over, momentum=0.8, max_gamma=3.0)
    running_total = running_count = 0.0
    for logits, labels, weight in batches():
        target = labels
        if dense:
            target = torch.nn.functional.one_hot(labels, C + 1)[:, :C].float()
        value = loss(logits.requires_grad_(), target, weight, avg_factor=7.0)
        total = count = 0.0
        for row, label, w in zip(logits.tolist(), labels.tolist(), weight.tolist()):
            for c, z in enumerate(row):
                p = 1 / (1 + math.exp(-z))
                if c == label or over == 'all':
                    total += w * (p if c == label else 1 - p)
                    count += w
        running_total = 0.8 * running_total + 0.2 * total
        running_count = 0.8 * running_count + 0.2 * count
        mean = running_total / running_count
        assert loss.prob_correct.item() == pytest.approx(mean, rel=1e-5)
        assert loss.gamma.item() == pytest.approx(min(-math.log(mean), 3.0), rel=1e-5)
        expected = BalancedFocalLoss(gamma=loss.gamma.item())(logits, labels, weight, 7.0)
        torch.testing.assert_close(value, expected)


def kinds_of_targets(labels, generator):
    """(as given, the label of every element) for each way to write a target."""
    hard = torch.nn.functional.one_hot(labels, C + 1)[:, :C].float()
    score = torch.rand(len(labels), generator=generator)
    soft = torch.rand(len(labels), C, generator=generator)
    return {
        'indices': (labels, hard),
        'scores': ((labels, score), hard * score[:, None]),
        'soft': (soft, soft),
    }


def kinds_of_weights(rows, generator):
    """(as given, the weight of every element) likewise."""
    row, element = torch.rand(rows, generator=generator), torch.rand(rows, C, generator=generator)
    return {
        'none': (None, torch.ones(rows, C)),
        'row': (row, row[:, None].expand(rows, C)),
        'element': (element, element),
    }


TARGETS, WEIGHTS = ('indices', 'scores', 'soft'), ('none', 'row', 'element')


@pytest.mark.parametrize('over', ['positives', 'all'])
@pytest.mark.parametrize('kind', TARGETS)
@pytest.mark.parametrize('weighted', WEIGHTS)
def test_the_mean_of_any_target_and_weight(over, kind, weighted):
    generator = torch.Generator().manual_seed(1)
    (logits, labels, _), *_ = batches(1)
    target, dense = kinds_of_targets(labels, generator)[kind]
    weight, of_element = kinds_of_weights(len(labels), generator)[weighted]
    loss = automated(over=over)
    loss(logits.requires_grad_(), target, weight)
    total = count = 0.0
    for row in range(len(labels)):
        for c in range(C):
            p = 1 / (1 + math.exp(-logits[row, c].item()))
            y, w = dense[row, c].item(), of_element[row, c].item()
            total += w * (p * y if over == 'positives' else p * y + (1 - p) * (1 - y))
            count += w * (y if over == 'positives' else 1)
    assert loss.prob_correct.item() == pytest.approx(total / count, rel=1e-5)


@pytest.mark.parametrize('kind', TARGETS)
@pytest.mark.parametrize('weighted', WEIGHTS)
@pytest.mark.parametrize('alpha_mode', ['balanced', 'uniform'])
def test_gradients_by_class_are_autograds(kind, weighted, alpha_mode):
    generator = torch.Generator().manual_seed(2)
    (logits, labels, _), *_ = batches(1)
    target, dense = kinds_of_targets(labels, generator)[kind]
    weight, of_element = kinds_of_weights(len(labels), generator)[weighted]
    alpha, class_weight = (0.2, 0.4, 0.7), torch.tensor([1.5, 0.5, 2.0])
    gamma, scale = torch.tensor([0.5, 2.0, 3.0]), torch.tensor([1.0, 3.0, 0.5])
    loss = BalancedFocalLoss(
        alpha=alpha, alpha_mode=alpha_mode, class_weight=class_weight.tolist(), poly_epsilon=0.5
    )
    arguments = list(loss._rows(logits, target, weight))
    arguments[2] = loss.terms._replace(gamma=gamma, scale=scale)
    found = class_gradients(*arguments)

    x = logits.double().requires_grad_()
    values = balanced_focal_loss(
        x, dense, gamma, loss.alpha, 'sigmoid', alpha_mode, class_weight, poly_epsilon=0.5
    )
    (slope,) = torch.autograd.grad((values * scale * of_element).sum(), x)
    slope = slope.abs().float()
    torch.testing.assert_close(found[0], (slope * dense).sum(0))
    torch.testing.assert_close(found[1], (slope * (1 - dense)).sum(0))


@pytest.mark.parametrize('way', ['mean', 'sum', 'float64', 'compiled'])
def test_levels_are_differentiated_with_the_gamma_of_their_call(way):
    """A pyramid's levels are called one after the other, and the backward pass comes last."""
    loss, plain = automated(momentum=0.5, reduction='sum' if way == 'sum' else 'mean'), []
    call = torch.compile(loss, backend='eager') if way == 'compiled' else loss
    dtype = torch.float64 if way == 'float64' else torch.float32
    levels = [(x.to(dtype).requires_grad_(), labels) for x, labels, _ in batches(3)]
    total = 0
    for logits, labels in levels:
        total = total + call(logits, labels)
        plain.append(BalancedFocalLoss(gamma=loss.gamma.item(), reduction=loss.reduction))
    assert len({one.gamma for one in plain}) == 3
    total.backward()
    for (logits, labels), one in zip(levels, plain):
        copy = logits.detach().requires_grad_()
        one(copy, labels).backward()
        torch.testing.assert_close(logits.grad, copy.grad)


def test_a_level_counts_by_its_objects():
    few, many = torch.full((1, C), 3.0), torch.full((99, C), -1.0)
    loss = automated(momentum=0.999)
    for level in (few, many):
        loss(level.requires_grad_(), torch.zeros(len(level), dtype=torch.long))
    expected = (0.9525741 + 99 * 0.2689414) / 100
    assert loss.prob_correct.item() == pytest.approx(expected, rel=2e-3)


@pytest.mark.parametrize('make', [automated, equalized])
def test_nothing_of_a_prediction_that_is_not_finite_stays(make):
    loss, (first, *_) = make(), batches(1)
    logits, labels, weight = first
    loss(logits.requires_grad_(), labels, weight)
    before = {name: state.clone() for name, state in loss.state_dict().items()}
    broken = logits.detach().clone()
    broken[labels < C] = math.inf
    broken[labels < C, 0] = math.nan
    loss(broken.requires_grad_(), labels, weight)
    after = loss.state_dict()
    assert all(state.isfinite().all() for state in after.values())
    if make is automated:
        assert all(torch.equal(after[name], state) for name, state in before.items())


@pytest.mark.parametrize('make', [automated, equalized])
def test_without_any_prediction(make):
    loss = make()
    empty = torch.zeros(0, C).requires_grad_()
    value = loss(empty, torch.zeros(0, dtype=torch.long), avg_factor=1.0)
    value.backward()
    assert (
        value == 0
        and loss.state_dict()['gamma' if make is automated else 'positive_gradient']
        .isfinite()
        .all()
    )


def test_without_objects_and_in_evaluation_gamma_stays():
    loss = automated(gamma=1.5)
    nothing = torch.full((4,), C)
    loss(torch.randn(4, C).requires_grad_(), nothing)
    assert loss.gamma == 1.5 and loss.prob_correct.isnan()
    loss.eval()
    loss(torch.randn(4, C).requires_grad_(), torch.zeros(4, dtype=torch.long))
    assert loss.gamma == 1.5


def equalized_by_loops(steps, gamma=2.0, scale_factor=8.0, alpha=0.25):
    """(value, g) of each step by autograd and loops, in float64."""
    positive, negative = [0.0] * C, [0.0] * C
    for logits, labels, weight in steps:
        # the batch at hand is looked at before its loss is taken
        for turn in range(2):
            ratio = [min(p / n, 1.0) if n else 1.0 for p, n in zip(positive, negative)]
            x = logits.detach().double().requires_grad_()
            total = 0.0
            for row in range(len(x)):
                for c in range(C):
                    own = gamma + scale_factor * (1 - ratio[c])
                    y = float(labels[row] == c)
                    pt = x[row, c].sigmoid() if y else (-x[row, c]).sigmoid()
                    at = alpha if y else 1 - alpha
                    element = -at * (own / gamma) * (1 - pt) ** own * pt.log()
                    total = total + weight[row].double() * element / 7.0
            (grad,) = torch.autograd.grad(total, x)
            if turn == 0:
                for row in range(len(x)):
                    for c in range(C):
                        share = positive if labels[row] == c else negative
                        share[c] += abs(grad[row, c].item())
        yield total.item(), ratio


def test_equalized_equals_loops():
    steps = list(batches())
    loss = equalized()
    for (logits, labels, weight), (value, ratio) in zip(steps, equalized_by_loops(steps)):
        found = loss(logits.requires_grad_(), labels, weight, avg_factor=7.0)
        assert found.item() == pytest.approx(value, rel=1e-4)
        assert loss.gradient_ratio.tolist() == pytest.approx(ratio, rel=1e-4)
    assert loss.gamma.min() > 2  # there was something to equalize
    found.backward()
    assert logits.grad.isfinite().all()


def test_equalized_without_focusing_by_class_is_focal_loss():
    loss, plain = equalized(scale_factor=0.0), BalancedFocalLoss()
    for logits, labels, weight in batches():
        torch.testing.assert_close(loss(logits, labels, weight), plain(logits, labels, weight))


def test_a_rare_class_gets_the_larger_gamma():
    generator = torch.Generator().manual_seed(0)
    loss = equalized()
    for _ in range(20):
        logits = torch.randn(200, C, generator=generator).requires_grad_()
        labels = torch.full((200,), C)
        labels[:100], labels[100] = 0, 2
        loss(logits, labels)
    assert loss.gamma[0] < loss.gamma[2]


@settings(max_examples=25, deadline=None)
@given(
    make=st.sampled_from([automated, equalized]),
    seed=st.integers(0, 2**31),
    number=st.integers(2, 7),
    saved_after=st.integers(1, 6),
    rows=st.integers(1, 40),
)
def test_state_is_saved_and_resumed_exactly(make, seed, number, saved_after, rows):
    steps = list(batches(number, rows, seed))
    saved_after = min(saved_after, number - 1)
    straight, first, resumed = make(), make(), make()
    for logits, labels, weight in steps[:saved_after]:
        first(logits.requires_grad_(), labels, weight)
    file = io.BytesIO()
    torch.save(first.state_dict(), file)
    file.seek(0)
    resumed.load_state_dict(torch.load(file, weights_only=True))
    for logits, labels, weight in steps:
        straight(logits.requires_grad_(), labels, weight)
    for logits, labels, weight in steps[saved_after:]:
        value = resumed(logits.requires_grad_(), labels, weight)
    for name, state in straight.state_dict().items():
        assert torch.equal(state, resumed.state_dict()[name]), name
    last, labels, weight = steps[-1]
    straight.eval(), resumed.eval()
    assert straight(last, labels, weight) == resumed(last, labels, weight)
    assert value.isfinite()


@pytest.mark.parametrize('make', [automated, equalized])
def test_the_mean_of_two_ranks(make, monkeypatch):
    """Two ranks with half a batch each have the gamma of one with all of it."""
    (logits, labels, weight), *_ = batches(1)
    whole, half, other = make(), make(), make()
    whole(logits.requires_grad_(), labels, weight, avg_factor=3.0)
    half(logits[:10], labels[:10], weight[:10], avg_factor=3.0)
    other(logits[10:], labels[10:], weight[10:], avg_factor=3.0)
    assert not torch.equal(half.gamma, whole.gamma)

    def mean(buffers, op):
        assert op == 'mean'
        for mine, name in zip(buffers, half.state):
            mine.copy_((mine + getattr(other, name)) / 2)

    monkeypatch.setattr(adaptive_focal_loss, 'all_reduce_params', mean)
    half.synchronize()
    torch.testing.assert_close(half.gamma, whole.gamma)


@pytest.mark.parametrize('make', [automated, equalized])
def test_other_processes_are_named_once(make, monkeypatch):
    said = []
    monkeypatch.setattr(adaptive_focal_loss, 'get_world_size', lambda: 2)
    monkeypatch.setattr(adaptive_focal_loss, 'print_log', lambda text, *_: said.append(text))
    (logits, labels, _), *_ = batches(1)
    loss, shared = make(), make()
    shared.synchronize()
    for _ in range(2):
        loss(logits.requires_grad_(), labels)
        shared(logits, labels)
    assert len(said) == 1 and "dict(type='AdaptiveLossSyncHook')" in said[0]


@pytest.mark.parametrize('make', [automated, equalized])
def test_calls_for_single_elements_are_not_training(make):
    """By such calls PAA ranks its candidates."""
    (logits, labels, _), *_ = batches(1)
    loss, plain = make(), make(reduction='none')
    before = {name: state.clone() for name, state in loss.state_dict().items()}
    elements = loss(logits.requires_grad_(), labels, avg_factor=1.0, reduction_override='none')
    assert elements.shape == logits.shape
    for name, state in loss.state_dict().items():
        torch.testing.assert_close(state, before[name], rtol=0, atol=0, equal_nan=True)
    # FSAF's reduction: these are its training.
    plain(logits, labels)
    assert plain.gamma.tolist() != loss.gamma.tolist()


@pytest.mark.parametrize(
    'cfg, message',
    [
        (dict(type='AutomatedFocalLoss', over='none'), "over must be 'positives' or 'all'"),
        (dict(type='AutomatedFocalLoss', momentum=1.0), 'momentum'),
        (dict(type='AutomatedFocalLoss', max_gamma=0), 'max_gamma'),
        (dict(type='AutomatedFocalLoss', gamma=-1), 'gamma'),
        (dict(type='AutomatedFocalLoss', use_sigmoid=False), 'logits of a sigmoid'),
        (dict(type='EqualizedFocalLoss', num_classes=0), 'num_classes'),
        (dict(type='EqualizedFocalLoss', num_classes=2, gamma=0), 'gamma must be positive'),
        (dict(type='EqualizedFocalLoss', num_classes=2, scale_factor=-1), 'scale_factor'),
        (dict(type='EqualizedFocalLoss', num_classes=2, label_smoothing=0.1), 'label_smoothing'),
        (dict(type='BalancedFocalLoss', label_smoothing=1.1), 'label_smoothing'),
        (dict(type='BalancedFocalLoss', poly_epsilon=-2), 'poly_epsilon'),
    ],
    ids=str,
)
def test_bad_arguments(cfg, message):
    with pytest.raises(ValueError, match=message):
        MODELS.build(cfg)


def test_a_prediction_of_other_classes():
    # Compared with the classes of the data set by NumClassCheckHook; an objectness has one column.
    assert not hasattr(equalized(), 'num_classes')
    with pytest.raises(ValueError, match='num_classes=3, but .* has 4'):
        equalized()(torch.randn(2, 4), torch.zeros(2, dtype=torch.long))


def test_label_smoothing():
    logits, labels, _ = next(batches(1))
    soft = torch.nn.functional.one_hot(labels, C + 1)[:, :C] * 0.9 + 0.05
    found = BalancedFocalLoss(label_smoothing=0.1)(logits, labels)
    torch.testing.assert_close(found, BalancedFocalLoss()(logits, soft))
    # softmax without focusing: PyTorch's own
    labels = labels.clamp(max=C - 1)
    loss = BalancedFocalLoss(use_sigmoid=False, gamma=0, alpha=None, label_smoothing=0.1)
    expected = torch.nn.functional.cross_entropy(logits, labels, label_smoothing=0.1)
    torch.testing.assert_close(loss(logits, labels), expected)


def test_label_smoothing_of_labels_with_scores():
    (logits, labels, score), *_ = batches(1)
    dense = torch.nn.functional.one_hot(labels, C + 1)[:, :C] * score[:, None]
    found = BalancedFocalLoss(label_smoothing=0.1)(logits, (labels, score))
    torch.testing.assert_close(found, BalancedFocalLoss()(logits, dense * 0.9 + 0.05))


def test_poly_1():
    """Values by hand: pt = 0.8, gamma 2, epsilon 1: 0.04 * 0.2231 + 0.008."""
    logit = torch.tensor([[math.log(4.0)]])
    loss = BalancedFocalLoss(alpha=None, poly_epsilon=1.0, reduction='none')
    found = loss(logit, torch.tensor([0]))
    assert found.item() == pytest.approx(0.04 * 0.22314355 + 0.008, rel=1e-5)
    softmax = BalancedFocalLoss(use_sigmoid=False, alpha=None, poly_epsilon=1.0, reduction='none')
    found = softmax(torch.tensor([[math.log(4.0), 0.0]]), torch.tensor([0]))
    assert found.item() == pytest.approx(0.04 * 0.22314355 + 0.008, rel=1e-5)


def test_poly_1_of_unequal_classes():
    """The further term is weighted as the rest: pt = 0.8, a class that weighs 3 and its alpha."""
    logit, cost = math.log(4.0), 0.04 * 0.22314355 + 0.008
    weights = dict(alpha=[0.6, 0.1], class_weight=[3.0, 1.0], poly_epsilon=1.0, reduction='none')
    softmax = BalancedFocalLoss(use_sigmoid=False, **weights)
    found = softmax(torch.tensor([[logit, 0.0]]), torch.tensor([0]))
    assert found.item() == pytest.approx(0.6 * 3 * cost, rel=1e-5)
    found = BalancedFocalLoss(**weights)(torch.tensor([[logit, -logit]]), torch.tensor([0]))
    assert found[0].tolist() == pytest.approx([0.6 * 3 * cost, 0.9 * cost], rel=1e-5)


@pytest.mark.parametrize('make', [automated, equalized])
def test_in_the_head(make):
    from .test_yolov2_head import TRUTHS, build, metas, random_map

    cfg = dict(type='AutomatedFocalLoss')
    if make is equalized:
        cfg = dict(type='EqualizedFocalLoss', num_classes=4)
    head = build(loss_obj=None, loss_cls=cfg).train()
    pred = random_map(dtype=torch.float32).requires_grad_()
    losses = head.loss_by_feat((pred,), TRUTHS, metas())
    losses['loss_cls'].backward()
    assert pred.grad.isfinite().all()
    assert any('loss_cls' in name for name in head.state_dict())


def test_gamma_has_its_limit():
    loss = automated(max_gamma=1.5)  # -log(sigmoid(-4)) is 4.02
    loss(torch.full((4, C), -4.0).requires_grad_(), torch.zeros(4, dtype=torch.long))
    assert loss.gamma == 1.5


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_the_sums_go_on_in_a_model_of_half_precision(dtype):
    """1 more is nothing to 256 in bfloat16, nor to 2048 in float16."""
    loss = equalized()
    loss.positive_gradient.fill_(4096)
    loss.to(dtype)
    loss(torch.zeros(2, C, requires_grad=True), torch.tensor([0, C]), avg_factor=0.25)
    # 1/4 of alpha times 1/4 of the slope at pt 0.5, with gamma 2.
    added = loss.positive_gradient[0].item() - 4096
    assert loss.positive_gradient.dtype == torch.float32 and 0 < added < 1


def test_the_ratio_is_of_averaged_gradients():
    loss, x = equalized(scale_factor=0.0), torch.zeros(2, C)
    for labels, average in (((0, C), 1.0), ((C, C), 100.0)):
        loss(x.clone().requires_grad_(), torch.tensor(labels), avg_factor=average)
    # At pt 0.5 all slopes are equal but for alpha: 1/4 against 3/4.
    expected = 0.25 / (0.75 + 1.5 / 100)
    assert loss.gradient_ratio[0].item() == pytest.approx(expected, rel=1e-5)
