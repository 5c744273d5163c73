"""Every formula of docs/focal_loss.md: what the article says, what is correct, and our code."""

import math
import re
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmdet_yolo2fl.models import BalancedFocalLoss
from mmdet_yolo2fl.models.losses import balanced_focal_loss

ROOT = Path(__file__).parents[2]
# The article's FocalLoss(alpha=0.25, gamma=2) as a config.
ARTICLE = dict(activation='none', alpha_mode='uniform', alpha=0.25, gamma=2.0)

# As small as they come, since the formula is finite there.
probability = st.one_of(st.floats(1e-6, 1 - 1e-6), st.floats(1e-300, 1e-6))
gammas = st.one_of(st.sampled_from([0.0, 0.5, 1.0, 2.0]), st.floats(0, 5))


def alphas(low, high):
    """Exact in float32, as the loss keeps alpha: 1 - alpha loses digits where alpha is near 1."""
    return st.floats(low, high, width=32)


def value(p, y, **options):
    pred = torch.tensor([[p]], dtype=torch.float64)
    return BalancedFocalLoss(**{**ARTICLE, **options})(pred, torch.tensor([[float(y)]])).item()


def articles_focal_loss(inputs, targets, alpha=0.25, gamma=2):
    """Section 5.1, by its formula: -alpha (1 - pt)^gamma log pt, the mean over all elements."""
    values = [
        -alpha * (1 - pt) ** gamma * math.log(pt)
        for pt in (p if y == 1 else 1 - p for p, y in zip(inputs, targets))
    ]
    return sum(values) / len(values)


@settings(max_examples=200, deadline=None)
@given(
    elements=st.lists(st.tuples(probability, st.integers(0, 1)), min_size=1, max_size=8),
    alpha=alphas(0, 2),
    gamma=gammas,
)
def test_5_1_the_articles_class_is_a_configuration(elements, alpha, gamma):
    inputs, targets = zip(*elements)
    loss = BalancedFocalLoss(**{**ARTICLE, 'alpha': alpha, 'gamma': gamma})
    mine = loss(
        torch.tensor(inputs, dtype=torch.float64)[:, None], torch.tensor(targets).double()[:, None]
    )
    expected = articles_focal_loss(inputs, targets, alpha, gamma)
    assert mine.item() == pytest.approx(expected, rel=1e-5, abs=1e-12)


@pytest.mark.parametrize('p, y', [(0.0, 1), (1.0, 0), (0.0, 0), (1.0, 1)])
def test_5_1_finite_where_the_article_is_not(p, y):
    pred = torch.tensor([[p]], requires_grad=True)
    loss = BalancedFocalLoss(**ARTICLE)(pred, torch.tensor([[float(y)]]))
    loss.backward()
    assert loss.isfinite() and pred.grad.isfinite().all()
    right = p == y
    assert loss.item() == pytest.approx(0, abs=1e-6) if right else loss.item() > 1
    if not right:  # it still learns, and in the right direction
        assert pred.grad.item() * (1 - 2 * y) > 0


@pytest.mark.parametrize('bad', [-0.1, 1.1, math.inf])
def test_5_1_refuses_what_is_no_probability(bad):
    with pytest.raises(ValueError, match=r'pred must hold probabilities in 0\.\.1'):
        BalancedFocalLoss(**ARTICLE)(torch.tensor([[bad]]), torch.tensor([[1.0]]))


@settings(max_examples=100, deadline=None)
@given(p=probability, y=st.integers(0, 1))
def test_2_1_gamma_0_without_alpha_is_cross_entropy(p, y):
    expected = -y * math.log(p) - (1 - y) * math.log(1 - p)
    assert value(p, y, gamma=0, alpha=None) == pytest.approx(expected, rel=1e-5, abs=1e-9)


@settings(max_examples=100, deadline=None)
@given(p=probability, y=st.integers(0, 1), alpha=alphas(0, 1))
def test_2_2_gamma_0_is_balanced_cross_entropy(p, y, alpha):
    expected = -alpha * y * math.log(p) - (1 - alpha) * (1 - y) * math.log(1 - p)
    mine = value(p, y, gamma=0, alpha=alpha, alpha_mode='balanced')
    assert mine == pytest.approx(expected, rel=1e-5, abs=1e-9)


@settings(max_examples=100, deadline=None)
@given(p=probability, gamma=gammas, alpha=alphas(0.015625, 0.984375))
def test_2_3_one_alpha_is_the_uniform_form_and_retinanet_has_two(p, gamma, alpha):
    plain = {y: value(p, y, gamma=gamma, alpha=None) for y in (0, 1)}
    for y in (0, 1):
        uniform = value(p, y, gamma=gamma, alpha=alpha)
        balanced = value(p, y, gamma=gamma, alpha=alpha, alpha_mode='balanced')
        assert uniform == pytest.approx(alpha * plain[y], rel=1e-6)
        assert balanced == pytest.approx((alpha if y else 1 - alpha) * plain[y], rel=1e-6)
        assert value(p, y, gamma=gamma, alpha=1.0) == pytest.approx(plain[y])


@settings(max_examples=200, deadline=None)
@given(a=probability, b=probability, y=st.integers(0, 1), gamma=gammas)
def test_2_3_falls_with_pt(a, b, y, gamma):
    low, high = sorted((a, b))
    pt_low, pt_high = (low, high) if y else (1 - high, 1 - low)
    as_p = (lambda pt: pt) if y else (lambda pt: 1 - pt)
    less, more = (value(as_p(pt), y, gamma=gamma) for pt in (pt_low, pt_high))
    assert less >= more - 1e-9


@settings(max_examples=100, deadline=None)
@given(p=probability, gamma=gammas)
def test_2_3_the_factor_tends_to_0_and_1(p, gamma):
    assert value(p, 1, gamma=gamma, alpha=None) == pytest.approx(
        (1 - p) ** gamma * value(p, 1, gamma=0, alpha=None), rel=1e-5, abs=1e-12
    )


@settings(max_examples=100, deadline=None)
@given(pt=st.floats(0.01, 0.99), gamma=st.floats(0, 5), alpha=st.floats(0.1, 1))
def test_4_1_derivative_by_pt(pt, gamma, alpha):
    pred = torch.tensor([[pt]], dtype=torch.float64, requires_grad=True)
    balanced_focal_loss(
        pred, torch.ones_like(pred), gamma, alpha, 'none', 'uniform'
    ).sum().backward()
    correct = alpha * (1 - pt) ** (gamma - 1) * (gamma * math.log(pt) - (1 - pt) / pt)
    assert pred.grad.item() == pytest.approx(correct, rel=1e-6)
    # The article divides nothing by pt; what it leaves out is this, everywhere but at pt = 1.
    article = alpha * (1 - pt) ** (gamma - 1) * (gamma * math.log(pt) - 1 + pt)
    missing = alpha * (1 - pt) ** gamma * (1 / pt - 1)
    assert article - correct == pytest.approx(missing, rel=1e-6, abs=1e-12)


@settings(max_examples=100, deadline=None)
@given(z=st.floats(-20, 20), y=st.integers(0, 1), gamma=st.floats(0, 5))
def test_4_1_derivative_by_the_logit(z, y, gamma):
    pred = torch.tensor([[z]], dtype=torch.float64, requires_grad=True)
    balanced_focal_loss(pred, torch.full_like(pred, y), gamma, None).sum().backward()
    zt = z if y else -z
    pt = 1 / (1 + math.exp(-zt))
    by_zt = (1 - pt) ** gamma * (gamma * pt * math.log(pt) + pt - 1)
    assert pred.grad.item() == pytest.approx(by_zt if y else -by_zt, rel=1e-5, abs=1e-12)


def test_4_2_the_worked_example():
    assert value(0.8, 1) == pytest.approx(0.00223, abs=5e-6)
    assert value(0.8, 1, alpha=1.0) == pytest.approx(
        0.00893, abs=5e-6
    )  # nearer the article's 0.008


def test_5_1_the_mean_over_all_anchors_vanishes():
    # One object among n anchors: the mean falls with n, the sum over the positives does not.
    losses = {}
    for n in (100, 10_000):
        pred = torch.full((n, 1), 0.01)
        target = torch.zeros(n, 1)
        pred[0], target[0] = 0.3, 1
        loss = BalancedFocalLoss(**ARTICLE)
        losses[n] = loss(pred, target).item(), loss(pred, target, avg_factor=1).item()
    assert losses[10_000][0] < losses[100][0] / 50
    assert losses[10_000][1] == pytest.approx(losses[100][1], rel=0.3)


def test_the_page_names_code_and_tests_that_exist():
    page = (ROOT / 'docs/focal_loss.md').read_text()
    here = Path(__file__).read_text()
    named = set(re.findall(r'`(test_\d_\d_\w+)`', page))
    defined = set(re.findall(r'def (test_\d_\d_\w+)', here))
    assert named == defined
    for path in re.findall(r'\]\((?!http)([^)#]+)\)', page):
        assert (ROOT / 'docs' / path).exists(), path
    for file, name in re.findall(r'`(\w+\.py):(\w+)`', page):
        (source,) = (ROOT / 'mmdet_yolo2fl').rglob(file)
        assert re.search(rf'(def|class) {name}\b', source.read_text()), (file, name)
