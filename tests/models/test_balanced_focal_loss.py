import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from mmdet.models.losses import CrossEntropyLoss, FocalLoss
from mmdet.models.utils import sigmoid_geometric_mean
from mmdet.registry import MODELS
from mmengine.structures import InstanceData

from mmdet_yolo2fl.focal_analysis import bin_edges, observe
from mmdet_yolo2fl.models import BalancedFocalLoss
from mmdet_yolo2fl.models.losses import balanced_focal_loss

finite = st.floats(-30, 30, allow_nan=False)


def scalar_loss(z, y, gamma, alpha, mode='balanced'):
    """The definition, in Python's floats, of one element with a hard label."""
    zt = z if y else -z
    log_pt = -math.log1p(math.exp(-zt)) if zt > 0 else zt - math.log1p(math.exp(zt))
    miss = 1 / (1 + math.exp(zt)) if zt < 0 else math.exp(-zt) / (1 + math.exp(-zt))
    at = 1.0
    if alpha is not None:
        at = alpha if y or mode == 'uniform' else 1 - alpha
    return -at * miss**gamma * log_pt


@settings(max_examples=200, deadline=None)
@given(
    z=finite,
    y=st.booleans(),
    gamma=st.sampled_from([0.0, 0.5, 1.0, 2.0, 3.7]),
    alpha=st.one_of(st.none(), st.floats(0, 1)),
    mode=st.sampled_from(['balanced', 'uniform']),
)
def test_value_and_gradient_equal_the_definition(z, y, gamma, alpha, mode):
    pred = torch.tensor([[z]], dtype=torch.float64, requires_grad=True)
    loss = balanced_focal_loss(pred, torch.tensor([[float(y)]]), gamma, alpha, alpha_mode=mode)
    assert loss.item() == pytest.approx(scalar_loss(z, y, gamma, alpha, mode), rel=1e-9, abs=1e-15)
    loss.sum().backward()
    # dFL/dzt = at (1 - pt)^gamma (gamma pt log pt + pt - 1)
    zt = z if y else -z
    pt = 1 / (1 + math.exp(-zt))
    at = 1.0 if alpha is None else alpha if y or mode == 'uniform' else 1 - alpha
    slope = at * (1 - pt) ** gamma * (gamma * pt * math.log(pt) + pt - 1)
    assert pred.grad.item() == pytest.approx(slope if y else -slope, rel=1e-5, abs=1e-12)


def test_the_worked_example():
    # -0.25 (1 - 0.8)^2 log 0.8: 0.00223, not the 0.008 of the article.
    probability = torch.tensor([[0.8]])
    loss = balanced_focal_loss(probability, torch.ones(1, 1), activation='none')
    assert loss.item() == pytest.approx(0.0022314355, rel=1e-5)


@pytest.mark.parametrize('gamma', [0.5, 2.0])
@pytest.mark.parametrize('one_hot', [True, False])
@pytest.mark.parametrize('weight_shape', [None, (6,), (6, 1), (6, 4), (24,)])
def test_equals_mmdetections_focal_loss(gamma, one_hot, weight_shape):
    torch.manual_seed(0)
    pred, labels = torch.randn(6, 4) * 3, torch.tensor([0, 3, 4, 1, 4, 2])
    target = F.one_hot(labels, 5)[:, :4].float() if one_hot else labels
    weight = None if weight_shape is None else torch.rand(weight_shape)
    kwargs = dict(gamma=gamma, alpha=0.3, loss_weight=2.0)
    theirs, ours = FocalLoss(**kwargs), BalancedFocalLoss(**kwargs)
    for reduction, avg_factor in (('mean', None), ('mean', 3.0), ('sum', None), ('none', None)):
        args = dict(avg_factor=avg_factor, reduction_override=reduction)
        torch.testing.assert_close(
            ours(pred, target, weight, **args), theirs(pred, target, weight, **args)
        )


def test_soft_labels_equal_mmdetections():
    torch.manual_seed(0)
    pred, soft = torch.randn(8, 3), torch.rand(8, 3)
    torch.testing.assert_close(BalancedFocalLoss()(pred, soft), FocalLoss()(pred, soft))


def test_gamma_zero_is_cross_entropy():
    torch.manual_seed(0)
    pred, labels = torch.randn(8, 3), torch.tensor([0, 1, 2, 3, 0, 1, 2, 3])
    plain = BalancedFocalLoss(gamma=0, alpha=None)
    torch.testing.assert_close(
        plain(pred, labels), CrossEntropyLoss(use_sigmoid=True)(pred, labels)
    )
    weights = [0.5, 2.0, 3.0]
    rows = labels.clamp(max=2)
    for class_weight in (None, weights):
        softmax = BalancedFocalLoss(
            False, gamma=0, alpha=None, class_weight=class_weight, reduction='none'
        )
        theirs = CrossEntropyLoss(class_weight=class_weight, reduction='none')
        torch.testing.assert_close(softmax(pred, rows), theirs(pred, rows))


def test_class_weight_is_the_positive_weight_of_cross_entropy():
    torch.manual_seed(0)
    pred, target = torch.randn(8, 3), (torch.rand(8, 3) > 0.5).float()
    weights = torch.tensor([0.5, 2.0, 3.0])
    ours = BalancedFocalLoss(gamma=0, alpha=None, class_weight=weights.tolist())
    theirs = F.binary_cross_entropy_with_logits(pred, target, pos_weight=weights)
    torch.testing.assert_close(ours(pred, target), theirs)


def test_alpha_for_each_class():
    pred, target = torch.zeros(2, 2), torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    loss = BalancedFocalLoss(gamma=0, alpha=[0.25, 0.6], reduction='none')(pred, target)
    expected = math.log(2) * torch.tensor([[0.25, 0.4], [0.75, 0.6]])
    torch.testing.assert_close(loss, expected)


@settings(max_examples=50, deadline=None)
@given(
    logits=st.lists(finite, min_size=3, max_size=3),
    label=st.integers(0, 2),
    gamma=st.sampled_from([0.0, 0.5, 2.0]),
)
def test_softmax_equals_the_definition(logits, label, gamma):
    pred = torch.tensor([logits], dtype=torch.float64)
    loss = BalancedFocalLoss(False, gamma=gamma, alpha=[0.1, 0.2, 0.3], reduction='none')(
        pred, torch.tensor([label])
    )
    pt = math.exp(logits[label]) / sum(map(math.exp, logits))
    expected = -(0.1, 0.2, 0.3)[label] * max(1 - pt, 0) ** gamma * math.log(pt)
    assert loss.item() == pytest.approx(expected, rel=1e-4, abs=1e-7)


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize('gamma', [0.0, 0.3, 1.0, 2.0])
@pytest.mark.parametrize('activation', ['sigmoid', 'softmax'])
def test_finite_for_every_finite_logit(dtype, gamma, activation):
    values = torch.tensor([-1e4, -100.0, -20.0, 0.0, 20.0, 100.0, 1e4])
    pred = torch.cartesian_prod(values, values).to(dtype).requires_grad_()
    for target in (0.0, 1.0, 0.3):
        dense = torch.full_like(pred, target)
        loss = BalancedFocalLoss(gamma=gamma, activation=activation)(pred, dense)
        (grad,) = torch.autograd.grad(loss, pred)
        assert loss.isfinite() and grad.isfinite().all()
        assert loss.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)


@pytest.mark.parametrize('gamma', [0.0, 0.5, 2.0])
def test_probabilities_at_their_ends_are_finite(gamma):
    pred = torch.tensor([[0.0, 1.0]], requires_grad=True)
    for target in ([[1.0, 0.0]], [[0.0, 1.0]]):
        loss = BalancedFocalLoss(gamma=gamma, activation='none')(pred, torch.tensor(target))
        (grad,) = torch.autograd.grad(loss, pred)
        assert loss.isfinite() and grad.isfinite().all()


@pytest.mark.parametrize('soft', [0.0, 0.9])
def test_half_probabilities_at_their_ends_have_gradients(soft):
    """As TOOD's head makes them in mixed precision: 1 where a logit exceeds 8."""
    logits = torch.tensor([[20.0], [8.4], [8.0], [-20.0]], dtype=torch.float16)
    one, other = (logits.clone().requires_grad_() for _ in range(2))
    prob = sigmoid_geometric_mean(one, other)
    prob.retain_grad()
    assert prob.dtype == torch.float16 and prob[0] == 1
    for label in (torch.full_like(prob, soft), torch.ones_like(prob)):
        loss = BalancedFocalLoss(activation='none', gamma=0, alpha=None, reduction='sum')
        loss(prob, label).backward(retain_graph=True)
        assert all(x.grad.isfinite().all() for x in (prob, one, other))


def test_a_probability_of_zero_that_should_be_one_is_pushed():
    pred = torch.tensor([[0.0]], requires_grad=True)
    BalancedFocalLoss(gamma=0, alpha=None, activation='none')(pred, torch.ones(1, 1)).backward()
    assert -1.1e12 < pred.grad.item() < -0.9e12


def test_probabilities_give_what_their_logits_give():
    torch.manual_seed(0)
    pred, labels = torch.randn(9, 4), torch.arange(9) % 5
    torch.testing.assert_close(
        BalancedFocalLoss(activation='none')(pred.sigmoid(), labels),
        BalancedFocalLoss()(pred, labels),
        rtol=1e-4,
        atol=1e-6,
    )


def test_indices_with_scores_are_soft_labels():
    pred = torch.randn(3, 2, generator=torch.Generator().manual_seed(0))
    loss = BalancedFocalLoss()
    soft = torch.tensor([[0.7, 0.0], [0.0, 0.0], [0.0, 0.2]])
    torch.testing.assert_close(
        loss(pred, (torch.tensor([0, 2, 1]), torch.tensor([0.7, 0.9, 0.2]))), loss(pred, soft)
    )


def test_three_dimensional_predictions_with_broadcast_weights():
    torch.manual_seed(0)
    pred, target = torch.randn(2, 5, 3), (torch.rand(2, 5, 3) > 0.7).float()
    loss = BalancedFocalLoss(reduction='sum')
    expected = (balanced_focal_loss(pred, target) * torch.arange(5.0)[None, :, None]).sum()
    for weight in (torch.arange(5.0).expand(2, 5), torch.arange(5.0).expand(2, 5)[..., None]):
        torch.testing.assert_close(loss(pred, target, weight), expected)


def test_is_built_from_a_config_with_mmdetections_argument():
    loss = MODELS.build(dict(type='BalancedFocalLoss', use_sigmoid=True, gamma=1.5))
    assert loss.use_sigmoid and loss.activation == 'sigmoid'
    assert not MODELS.build(dict(type='BalancedFocalLoss', use_sigmoid=False)).use_sigmoid
    assert not loss.state_dict()


@pytest.mark.parametrize(
    'kwargs, message',
    [
        (dict(gamma=-1), 'gamma must be a finite number >= 0, got -1'),
        (dict(gamma=float('nan')), 'gamma .* got nan'),
        (dict(gamma=None), 'gamma .* got None'),
        (dict(gamma=[1.0, 2.0]), 'gamma .* got'),
        (dict(alpha='many'), "alpha .* got 'many'"),
        (dict(alpha=float('inf'), alpha_mode='uniform'), 'alpha must be a finite'),
        (dict(class_weight=[1.0, float('inf')]), 'class_weight must be a finite'),
        (dict(alpha=1.5), 'class_weight'),
        (dict(alpha=[0.1, -0.2]), 'alpha'),
        (dict(alpha=float('nan')), 'alpha'),
        (dict(class_weight=[-1.0]), 'class_weight'),
        (dict(activation='relu'), 'activation'),
        (dict(alpha_mode='other'), 'alpha_mode'),
        (dict(reduction='max'), 'reduction'),
        (dict(loss_weight=[1.0, 2.0]), 'must be one number.*is a class_weight'),
        (dict(use_sigmoid=True, activation='softmax'), 'contradicts'),
        (dict(activated=True, activation='sigmoid'), 'activated=True contradicts'),
        (dict(activated=True, use_sigmoid=False), 'activated=True contradicts'),
    ],
)
def test_bad_arguments(kwargs, message):
    with pytest.raises(ValueError, match=message):
        BalancedFocalLoss(**kwargs)


@pytest.mark.parametrize(
    'loss, target, weight, message',
    [
        (dict(), torch.tensor([0, 4]), None, 'labels must lie in 0..3, got 0..4'),
        (dict(), torch.tensor([-1, 0]), None, 'labels must lie'),
        (dict(), torch.tensor([0, 1, 2]), None, 'shape'),
        (dict(), torch.zeros(2), None, 'integer'),
        (dict(alpha=[0.1, 0.2]), torch.tensor([0, 1]), None, 'alpha has 2 values'),
        (dict(class_weight=[1.0, 2.0]), torch.tensor([0, 1]), None, 'class_weight has 2'),
        (dict(), torch.tensor([0, 1]), torch.ones(5), 'weight of shape'),
        (dict(use_sigmoid=False), torch.tensor([0, 3]), None, r'lie in 0\.\.2, got 0\.\.3'),
        (dict(), torch.full((2, 3), 7), None, r'target must hold labels in 0\.\.1.* to 7'),
        (dict(), torch.full((2, 3), -1), None, r'target must hold labels in 0\.\.1.* -1 to'),
        (dict(), (torch.tensor([0, 1]), torch.tensor([0.5, 5.0])), None, 'scores of the'),
        (dict(), (torch.tensor([0, 1]), torch.ones(1)), None, r'\(indices, scores\).*\(1,\)'),
        (dict(), (torch.tensor([0, 1]), torch.ones(4)), None, r'\(indices, scores\).*\(4,\)'),
        (dict(), (torch.zeros(2, 3), torch.ones(2, 3)), None, r'\(indices, scores\)'),
    ],
)
def test_bad_calls(loss, target, weight, message):
    with pytest.raises(ValueError, match=message):
        BalancedFocalLoss(**loss)(torch.zeros(2, 3), target, weight)


@pytest.mark.parametrize('bad', [-0.1, 1.1, float('inf')])
def test_values_that_are_no_probabilities_are_refused(bad):
    good = torch.full((2, 3), 0.5)
    wrong = good.clone()
    wrong[1, 2] = bad
    with pytest.raises(ValueError, match='pred must hold probabilities in 0..1, got values'):
        BalancedFocalLoss(activation='none')(wrong, good)
    with pytest.raises(ValueError, match='target must hold labels in 0..1, got values'):
        BalancedFocalLoss()(good, wrong)
    BalancedFocalLoss(activation='none')(good, torch.tensor([0, 3]))
    # Rounding is no error.
    rounded = torch.full((2, 3), 1 + 2**-22).requires_grad_()
    loss = BalancedFocalLoss(activation='none', gamma=0.5)(rounded, good)
    loss.backward()
    assert loss.isfinite() and rounded.grad.isfinite().all()


@pytest.mark.parametrize('reduction', ['mean', 'none'])
def test_labels_that_rounding_carries_beyond_1(reduction):
    """IoUs of boxes in half precision, as YOLOX has them."""
    pred, found = torch.randn(2, 3), []
    for high in (1.0, 1.0037):
        label = torch.tensor([[high, 0.5, 0], [0, 0, high]])
        score = torch.tensor([2, 3]), torch.tensor([high, 0.5])
        for target in (label, score):
            logit = pred.clone().requires_grad_()
            loss = BalancedFocalLoss(gamma=1.5, reduction=reduction)(logit, target).sum()
            loss.backward()
            found += [loss, logit.grad]
    for one, other in zip(found[:4], found[4:]):
        torch.testing.assert_close(one, other, rtol=0, atol=0)
    with pytest.raises(ValueError, match='got values from 0 to 1.02'):
        BalancedFocalLoss()(pred, label * 1.02 / label.max())


@pytest.mark.parametrize('of_ours', [True, False])
def test_yolox_in_half_precision(of_ours):
    """A prediction that fits exactly; MMDetection's own loss is only looked at."""
    kind = 'BalancedFocalLoss' if of_ours else 'CrossEntropyLoss'
    head = MODELS.build(
        dict(
            type='YOLOXHead',
            num_classes=2,
            in_channels=8,
            feat_channels=8,
            strides=(8,),
            stacked_convs=1,
            loss_cls=dict(type=kind, use_sigmoid=True, reduction='sum'),
            train_cfg=dict(assigner=dict(type='mmdet.SimOTAAssigner', center_radius=2.5)),
        )
    ).train()
    seen = {}
    head.loss_cls.register_forward_pre_hook(lambda _, args: seen.update(args=args))
    # 3x3 cells around (100, 100), each with the very box: of 77 pixels, which bfloat16 rounds.
    box = torch.tensor([[61.0, 61, 138, 138]])
    ys, xs = torch.meshgrid(*2 * [torch.arange(26) * 8.0], indexing='ij')
    centre = (box[:, :2] + box[:, 2:])[0] / 2
    sides = torch.full((26, 26), (77 / torch.tensor(8)).log().item())
    boxes = torch.stack([(centre[0] - xs) / 8, (centre[1] - ys) / 8, sides, sides])[None]
    highest = 0.0
    for shift in torch.linspace(-0.05, 0.05, 41):
        half = (boxes + shift * torch.tensor([0, 0, 1, 1.0])[:, None, None]).bfloat16()
        truths = [InstanceData(bboxes=box, labels=torch.tensor([1]))]
        flat = torch.zeros(1, 2, 26, 26).bfloat16(), half, torch.zeros(1, 1, 26, 26).bfloat16()
        losses = head.loss_by_feat(*([one] for one in flat), truths, [dict(img_shape=(208, 208))])
        assert all(loss.isfinite() for loss in losses.values())
        observe(
            head.loss_cls, *seen['args'][:2], None, None, torch.tensor(bin_edges(0.9)).float(), 2
        )
        highest = max(highest, float(seen['args'][1].max()))
    assert 1.001 < highest < 1.01


def test_a_diverged_network_is_left_to_the_hook():
    """Its IoUs are labels, and NaN; ``NonFiniteLossHook`` names the term and the iteration."""
    target = torch.tensor([[0.5, math.nan], [0.0, 1.0]])
    assert BalancedFocalLoss()(torch.zeros(2, 2), target).isnan()
    scores = torch.tensor([0, 1]), torch.tensor([0.5, math.nan])
    assert BalancedFocalLoss()(torch.zeros(2, 2), scores).isnan()
    assert BalancedFocalLoss()(torch.zeros(2, 2), torch.full((2, 2), math.nan)).isnan()


def test_nan_hides_nothing():
    target = torch.tensor([[7.0, math.nan], [0.0, 1.0]])
    with pytest.raises(ValueError, match='in 0..1, got values from 0 to 7'):
        BalancedFocalLoss()(torch.zeros(2, 2), target)
    pred = torch.tensor([[0.5, math.nan], [0.0, 1.0]])
    with pytest.raises(ValueError, match='pred must hold probabilities in 0..1, got NaN'):
        BalancedFocalLoss(activation='none')(pred, torch.zeros(2, 2))


@pytest.mark.parametrize('avg_factor', [-1.0, math.nan])
def test_an_avg_factor_that_is_none(avg_factor):
    with pytest.raises(ValueError, match='avg_factor must be >= 0, got'):
        BalancedFocalLoss()(torch.zeros(2, 3), torch.tensor([0, 1]), avg_factor=avg_factor)


@pytest.mark.parametrize('reduction', ['mean', 'sum', 'none'])
def test_one_number_in_a_list_is_one_for_all(reduction):
    pred, target = torch.randn(4, 3), torch.tensor([0, 2, 3, 1])
    listed = BalancedFocalLoss(alpha=[0.3], class_weight=[2.0], reduction=reduction)
    plain = BalancedFocalLoss(alpha=0.3, class_weight=[2.0] * 3, reduction=reduction)
    torch.testing.assert_close(listed(pred, target), plain(pred, target))


@pytest.mark.parametrize('dtype', [torch.uint8, torch.int16, torch.int32])
def test_any_integer_labels(dtype):
    pred, target = torch.randn(4, 3), torch.tensor([0, 2, 3, 1])
    loss = BalancedFocalLoss()
    torch.testing.assert_close(loss(pred, target.to(dtype)), loss(pred, target))
