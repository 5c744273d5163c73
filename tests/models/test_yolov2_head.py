import math
from copy import deepcopy

import numpy as np
import pytest
import torch
from mmdet.registry import MODELS
from mmengine.runner.checkpoint import load_state_dict
from mmengine.structures import InstanceData

import mmdet_yolo2fl  # noqa: F401

from ..conftest import instances
from . import oracle

ANCHORS = ((1.0, 1.0), (2.0, 3.0), (3.0, 2.0))
C, H, W = 4, 3, 5
FOCAL = dict(type='BalancedFocalLoss', gamma=2.0, alpha=0.25)
CROSS_ENTROPY = dict(type='CrossEntropyLoss', use_sigmoid=True)
SQUARED = dict(type='MSELoss', loss_weight=0.5)
DARKNET = dict(
    loss_obj=SQUARED,
    loss_cls=dict(type='CrossEntropyLoss'),
    loss_xy=SQUARED,
    loss_wh=SQUARED,
    object_scale=5.0,
    rescore=True,
    normalizer='batch',
    prior_prob=None,
)
JOINT = dict(loss_obj=None, loss_cls=FOCAL)
PULL = dict(coord_prefill=12800)


def build(**kwargs):
    cfg = dict(
        type='YOLOV2Head',
        num_classes=C,
        in_channels=8,
        feat_channels=8,
        anchor_generator=dict(type='YOLOV2AnchorGenerator', anchors=ANCHORS),
        loss_obj=FOCAL,
        normalizer='num_pos',
        prior_prob=0.01,
        test_cfg=dict(score_thr=0.05, nms=dict(type='nms', iou_threshold=0.45), max_per_img=100),
    )
    head = MODELS.build(deepcopy(cfg | kwargs))
    head.init_weights()
    return head


def random_map(batch=2, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch, 3 * (5 + C), H, W, generator=generator, dtype=dtype) * 0.7


def metas(batch=2, **extra):
    size = (H * 32, W * 32)
    meta = dict(batch_input_shape=size, img_shape=size, ori_shape=size, scale_factor=(1.0, 1.0))
    return [dict(meta, **extra) for _ in range(batch)]


# The third falls on the first one's slot and wins it: four matches.
TRUTHS = [
    instances(
        [[10, 10, 50, 40], [64, 20, 150, 90], [12, 12, 48, 42], [100, 64, 160, 96]], [0, 3, 2, 1]
    ),
    instances([[30, 5, 70, 95]], [2]),
]
MATCHES = 4


def focal(z, positive):
    p = oracle.sigmoid(z)
    pt, alpha = (p, 0.25) if positive else (1 - p, 0.75)
    return -alpha * (1 - pt) ** 2 * math.log(pt)


def bce(z, y):
    p = oracle.sigmoid(z)
    return -y * math.log(p) - (1 - y) * math.log(1 - p)


def softmax_ce(logits, label):
    return math.log(sum(math.exp(z - logits[label]) for z in logits))


def halved_square(z, y):
    return (z - y) ** 2 / 2


def by_oracle(pred, way, rescore):
    raw = pred.reshape(len(pred), 3, 5 + C, H, W).permute(0, 3, 4, 1, 2).tolist()
    total, matches = dict(obj=0.0, cls=0.0, xy=0.0, wh=0.0), 0
    for image, truth in zip(raw, TRUTHS):
        terms, count = oracle.losses(
            image, truth.bboxes.tolist(), truth.labels.tolist(), ANCHORS, (H, W), way, rescore
        )
        total = {key: total[key] + terms[key] for key in total}
        matches += count
    return total, matches


def test_focal_way_equals_plain_loops():
    pred = random_map()
    losses = build(loss_obj=FOCAL).loss_by_feat((pred,), TRUTHS, metas())
    way = dict(
        obj=lambda z, y, positive: focal(z, positive),
        cls=softmax_ce,
        xy=bce,
        wh=halved_square,
    )
    expected, matches = by_oracle(pred, way, rescore=False)
    assert losses['num_pos'] == matches == MATCHES
    for key, value in expected.items():
        assert losses[f'loss_{key}'].item() == pytest.approx(value / matches, rel=1e-6), key


def test_darknet_way_equals_plain_loops():
    pred = random_map(seed=1)
    losses = build(**DARKNET).loss_by_feat(pred, TRUTHS, metas())
    way = dict(
        obj=lambda z, y, positive: (5 if positive else 1) * halved_square(oracle.sigmoid(z), y),
        cls=softmax_ce,
        xy=lambda z, y: halved_square(oracle.sigmoid(z), y),
        wh=halved_square,
    )
    expected, _ = by_oracle(pred, way, rescore=True)
    for key, value in expected.items():
        assert losses[f'loss_{key}'].item() == pytest.approx(value / 2, rel=1e-6), key


@pytest.mark.parametrize('rescore', [False, True])
def test_joint_way_is_focal_loss_on_every_class_of_every_slot(rescore):
    from mmdet.models.losses import FocalLoss

    pred = random_map(seed=2)
    head = build(**JOINT, rescore=rescore)
    losses = head.loss_by_feat((pred,), TRUTHS, metas())
    assert 'loss_obj' not in losses
    raw = pred.reshape(2, 3, 5 + C, H, W).permute(0, 3, 4, 1, 2)
    target = torch.zeros(2, H, W, 3, C, dtype=torch.float64)
    weight = torch.zeros(2, H, W, 3, 1, dtype=torch.float64)
    for b, truth in enumerate(TRUTHS):
        boxes = [
            [
                [oracle.decode(raw[b, j, i, a].tolist(), i, j, ANCHORS[a]) for a in range(3)]
                for i in range(W)
            ]
            for j in range(H)
        ]
        owner, kind = oracle.assign(boxes, truth.bboxes.tolist(), ANCHORS, (H, W))
        for slot, number in owner.items():
            j, i, a = slot
            iou = oracle.iou(boxes[j][i][a], truth.bboxes[number].tolist())
            target[b, j, i, a, truth.labels[number]] = iou if rescore else 1.0
        for slot, what in kind.items():
            weight[(b, *slot)] = what != 'ignore'
    expected = FocalLoss()(
        raw[..., 5:].reshape(-1, C), target.view(-1, C), weight.view(-1, 1), avg_factor=MATCHES
    )
    assert losses['loss_cls'].item() == pytest.approx(expected.item(), rel=1e-6)
    # the objectness channel is there and takes no part
    pred.requires_grad_()
    sum(head.loss_by_feat(pred, TRUTHS, metas())[k] for k in ('loss_cls', 'loss_xy')).backward()
    assert (pred.grad.view(2, 3, 5 + C, H, W)[:, :, 4] == 0).all()


LOSSES = {
    'loss_obj': [
        CROSS_ENTROPY,
        dict(type='MSELoss'),
        dict(type='SmoothL1Loss'),
        dict(type='FocalLoss'),
        dict(type='QualityFocalLoss'),
        FOCAL,
        dict(FOCAL, activation='none'),
    ],
    'loss_cls': [
        CROSS_ENTROPY,
        dict(type='CrossEntropyLoss'),
        dict(type='MSELoss'),
        dict(type='SmoothL1Loss'),
        dict(type='FocalLoss'),
        dict(type='QualityFocalLoss'),
        FOCAL,
        dict(FOCAL, use_sigmoid=False),
    ],
    'loss_xy': [CROSS_ENTROPY, dict(type='MSELoss'), dict(type='SmoothL1Loss'), FOCAL],
    'loss_wh': [dict(type='MSELoss'), dict(type='SmoothL1Loss'), dict(type='L1Loss')],
    'loss_bbox': [dict(type='GIoULoss'), dict(type='CIoULoss'), dict(type='IoULoss')],
}
CHANNELS = dict(
    loss_obj=slice(4, 5),
    loss_cls=slice(5, None),
    loss_xy=slice(0, 2),
    loss_wh=slice(2, 4),
    loss_bbox=slice(0, 4),
)


@pytest.mark.parametrize(
    'slot, loss', [(slot, loss) for slot, losses in LOSSES.items() for loss in losses]
)
def test_losses_of_mmdetection_fit_their_slots(slot, loss):
    extra = dict(loss_xy=None, loss_wh=None) if slot == 'loss_bbox' else {}
    head = build(**{slot: loss}, **extra)
    assert not extra or head.loss_xy is None
    pred = random_map(dtype=torch.float32).requires_grad_()
    value = head.loss_by_feat((pred,), TRUTHS, metas())[slot]
    assert value.shape == () and value > 0
    value.backward()
    grad = pred.grad.view(2, 3, 5 + C, H, W)
    assert grad.isfinite().all()
    assert (grad[:, :, CHANNELS[slot]] != 0).any()
    rest = torch.ones(5 + C, dtype=bool)
    rest[CHANNELS[slot]] = False
    assert (grad[:, :, rest] == 0).all()  # a term moves its own channels only


def test_a_loss_on_logits_and_one_on_probabilities_agree():
    pred = random_map(dtype=torch.float32)
    on_logits = build(loss_obj=FOCAL).loss_by_feat(pred, TRUTHS, metas())
    on_probabilities = build(loss_obj=dict(FOCAL, activation='none'))
    assert on_probabilities.loss_by_feat(pred, TRUTHS, metas())['loss_obj'].item() == pytest.approx(
        on_logits['loss_obj'].item(), rel=1e-5
    )


def test_normalizers_divide_the_same_sums():
    pred = random_map()
    by = {
        name: build(normalizer=name).loss_by_feat(pred, TRUTHS, metas())
        for name in ('num_pos', 'batch', 'none')
    }
    for key in ('loss_obj', 'loss_cls', 'loss_xy', 'loss_wh'):
        total = by['none'][key].item()
        assert by['num_pos'][key].item() == pytest.approx(total / MATCHES, rel=1e-6)
        assert by['batch'][key].item() == pytest.approx(total / 2, rel=1e-6)


def test_weights_from_before_there_was_a_counter_load():
    head = build()
    head.seen.fill_(64)
    old = {key: value for key, value in build().state_dict().items() if key != 'seen'}
    head.load_state_dict(old)  # strict
    assert head.seen == 64


def test_what_a_detector_of_other_classes_has_seen():
    """Its last convolution is not loaded, so that Darknet's prefill begins anew."""
    old, same, other = build(), build(), build(num_classes=C + 1)
    old.seen.fill_(50_000)
    for head, expected in ((same, 50_000), (other, 0)):
        load_state_dict(head, old.state_dict(), strict=False)
        assert head.seen == expected


def test_a_batch_is_the_sum_of_its_images():
    pred, head = random_map(), build(normalizer='none')
    whole = head.loss_by_feat(pred, TRUTHS, metas())
    parts = [head.loss_by_feat(pred[i : i + 1], TRUTHS[i : i + 1], metas(1)) for i in range(2)]
    for key in ('loss_obj', 'loss_cls', 'loss_xy', 'loss_wh', 'num_pos'):
        torch.testing.assert_close(whole[key], parts[0][key] + parts[1][key])


@pytest.mark.parametrize(
    'way',
    [{}, dict(normalizer='num_pos'), DARKNET, JOINT, dict(loss_bbox=dict(type='CIoULoss'))],
)
def test_images_without_objects(way):
    head, pred = build(**way), random_map(dtype=torch.float32).requires_grad_()
    losses = head.loss_by_feat((pred,), [instances([]), instances([])], metas())
    sum(value for key, value in losses.items() if 'loss' in key).backward()
    assert pred.grad.isfinite().all()
    score = losses['loss_cls' if 'loss_obj' not in losses else 'loss_obj']
    assert score > 0
    assert all(losses[key] == 0 for key in ('loss_xy', 'loss_wh', 'num_pos', 'avg_iou'))


def test_boxes_that_cannot_be_learned_are_counted_and_change_nothing():
    pred, head = random_map(), build()
    nan = float('nan')
    bad = instances(
        [[10, 10, 10, 40], [-90, 10, -20, 40], [nan, 0, 10, 10], [5, 5, 500, 500]], [0, 1, 2, 3]
    )
    with_bad = [InstanceData.cat([TRUTHS[0], bad]), TRUTHS[1]]
    expected = head.loss_by_feat(pred, TRUTHS, metas())
    losses = head.loss_by_feat(pred, with_bad, metas())
    assert losses['num_skipped'] == 4 and expected['num_skipped'] == 0
    for key in expected:
        if key != 'num_skipped':
            torch.testing.assert_close(losses[key], expected[key])


def test_ignored_truths_make_neither_positives_nor_negatives():
    head, pred = build(normalizer='none'), random_map().requires_grad_()
    crowd = [instances([[0, 0, W * 32, H * 32]]), None]
    losses = head.loss_by_feat(pred, [instances([]), instances([])], metas(), crowd)
    losses['loss_obj'].backward()
    objectness = pred.grad.view(2, 3, 5 + C, H, W)[:, :, 4]
    boxes = head._decode(*head._flatten(pred, metas())[:2])[0]
    clipped = boxes.clamp(min=0).minimum(boxes.new_tensor([W * 32, H * 32] * 2))
    area = (boxes[:, 2:] - boxes[:, :2]).prod(-1)
    mostly_inside = (clipped[:, 2:] - clipped[:, :2]).prod(-1) / area > 0.5
    responsible = objectness[0].permute(1, 2, 0).flatten() == 0
    # besides these, the one slot that would be responsible for the crowd's box
    assert responsible[mostly_inside].all() and responsible.sum() - mostly_inside.sum() <= 1
    assert (objectness[1] != 0).all()
    assert losses['num_pos'] == 0


@pytest.mark.parametrize('way, channels', [({}, slice(4, 5)), (JOINT, slice(5, None))])
def test_prior_of_the_score_bias(way, channels):
    head = build(**way, prior_prob=0.01)
    bias = head.conv_pred.bias.view(3, 5 + C)
    torch.testing.assert_close(
        bias[:, channels].sigmoid(), torch.full_like(bias[:, channels], 0.01)
    )
    bias.data[:, channels] = 0
    assert (bias == 0).all()
    assert (build(**way, prior_prob=None).conv_pred.bias == 0).all()


@pytest.mark.parametrize(
    'kwargs, message',
    [
        (dict(num_classes=0), 'num_classes must be at least 1'),
        (dict(normalizer='anchors'), "normalizer must be one of .* got 'anchors'"),
        (dict(prior_prob=1.0), 'prior_prob'),
        (dict(loss_wh=None), 'give loss_xy and loss_wh, or loss_bbox'),
        (dict(loss_xy=None, loss_bbox=dict(type='GIoULoss')), 'give loss_xy and loss_wh'),
        (dict(loss_xy=None, loss_wh=None), 'give loss_xy and loss_wh, or loss_bbox'),
        (dict(loss_obj=dict(type='CrossEntropyLoss')), 'loss_obj is a softmax loss'),
        (dict(loss_obj=dict(FOCAL, use_sigmoid=False)), 'loss_obj is a softmax loss'),
        (dict(loss_xy=dict(type='CrossEntropyLoss')), 'loss_xy is a softmax loss'),
        (dict(loss_obj=None), 'must be a sigmoid loss'),
        (
            dict(
                anchor_generator=dict(
                    type='YOLOAnchorGenerator', strides=[32, 16], base_sizes=[[(8, 8)], [(4, 4)]]
                )
            ),
            'one feature map.*2 levels',
        ),
        (
            dict(anchor_generator=dict(type='YOLOV2AnchorGenerator', anchors=[(116, 90)])),
            'Anchors are in cells, not pixels',
        ),
        (
            dict(
                anchor_generator=dict(
                    type='YOLOV2AnchorGenerator', anchors=ANCHORS, stride=(32, 16)
                )
            ),
            'square grid cells',
        ),
    ],
)
def test_bad_arguments(kwargs, message):
    with pytest.raises(ValueError, match=message):
        build(**kwargs)


@pytest.mark.parametrize('label', [-1, C])
def test_a_label_out_of_range_is_refused(label):
    with pytest.raises(ValueError, match=r'labels must lie in 0\.\.3.*num_classes'):
        build().loss_by_feat(random_map(1), [instances([[0, 0, 40, 40]], [label])], metas(1))


def test_anchors_of_another_stride_than_the_map_are_refused():
    generator = dict(type='YOLOV2AnchorGenerator', anchors=ANCHORS, stride=16)
    with pytest.raises(ValueError, match='map of 3x5 cells.*96x160 pixels.*stride 16'):
        build(anchor_generator=generator).loss_by_feat(random_map(), TRUTHS, metas())


@pytest.mark.parametrize('height, fits', [(3 * 32 + 31, True), (4 * 32, False)])
def test_inputs_that_are_no_multiple_of_the_stride(height, fits):
    """The network may leave out part of a cell, but not a whole one."""
    meta = dict(batch_input_shape=(height, 160), img_shape=(height, 160))
    if fits:
        build().loss_by_feat(random_map(), TRUTHS, [meta] * len(TRUTHS))
    else:
        with pytest.raises(ValueError, match='map of 3x5 cells does not fit .* 128x160 pixels'):
            build().loss_by_feat(random_map(), TRUTHS, [meta] * len(TRUTHS))


def test_anchors_of_which_none_fits_the_map_are_refused():
    generator = dict(type='YOLOV2AnchorGenerator', anchors=[(11, 13), (16, 30), (33, 23)])
    with pytest.raises(ValueError, match='as large as the map of 3x5 cells, or more.*not pixels'):
        build(anchor_generator=generator).loss_by_feat(random_map(), TRUTHS, metas())
    # Of objects that fill the image, at the least of several sizes.
    generator['anchors'] = [(7, 4), (6, 5), (8, 6)]
    build(anchor_generator=generator).loss_by_feat(random_map(), TRUTHS, metas())


def test_anchors_of_large_inputs_with_small_cells():
    large = dict(type='YOLOV2AnchorGenerator', anchors=[(97.5, 50.18)])
    build(anchor_generator=large | dict(stride=16))
    with pytest.raises(ValueError, match='more than 2048 pixels. Anchors are in cells'):
        build(anchor_generator=large)


@pytest.mark.parametrize('loss', ['L1Loss', 'SmoothL1Loss', 'BoundedIoULoss', 'CIoULoss'])
def test_box_losses_of_coordinates_and_of_overlaps(loss):
    head = build(loss_xy=None, loss_wh=None, loss_bbox=dict(type=loss, loss_weight=2.0))
    pred = random_map().requires_grad_()
    losses = head.loss_by_feat(pred, TRUTHS, metas())
    losses['loss_bbox'].backward()
    assert losses['loss_bbox'] > 0 and pred.grad.isfinite().all()
    matched = sum(map(len, TRUTHS))
    channels = (
        pred.grad.reshape(len(pred), -1, 5 + C, *pred.shape[-2:])[:, :, :4].abs().amax((1, 2))
    )
    assert 0 < (channels > 0).sum() <= matched


def test_a_truth_larger_than_the_input_still_pulls():
    """Nothing has clipped it: its weight is that of the whole input, and not negative."""
    huge = [instances([[-100.0, -100, 260, 200]], [1])]
    pred = random_map(1).requires_grad_()
    losses = build(**DARKNET).loss_by_feat((pred,), huge, metas(1))
    assert losses['num_pos'] == 1
    assert losses['loss_xy'] > 0 and losses['loss_wh'] > 0


@pytest.mark.parametrize(('side', 'overlap', 'recall'), [(16, 0.25, 0.5), (24, 0.5625, 1.0)])
def test_overlaps_at_matches_by_hand(side, overlap, recall):
    """On a map of zeros a slot has its anchor at the centre of its cell."""
    head = build(loss_bbox=dict(type='IoULoss', mode='linear'), normalizer='num_pos')
    # Cell (2, 1) has 64 x 96 pixels around (80, 48), of which the truth has three quarters; cell
    # (4, 0) has 32 x 32 around (144, 16), and the truth a square in its middle.
    half = side / 2
    small = [144 - half, 16 - half, 144 + half, 16 + half]
    truths = instances([[48, 12, 112, 84], small], [1, 2])
    pred = torch.zeros(2, 3 * (5 + C), H, W, dtype=torch.float64)
    losses = head.loss_by_feat(pred, [truths, instances([], [])], metas(2))
    assert losses['num_pos'] == 2 and losses['recall50'] == recall
    assert losses['avg_iou'] == pytest.approx((0.75 + overlap) / 2, abs=1e-5)
    assert losses['loss_bbox'] == pytest.approx((0.25 + 1 - overlap) / 2, abs=1e-5)


def test_the_joint_way_has_scales_too():
    pred = random_map()
    plain, scaled = (
        build(**JOINT, object_scale=scale, noobject_scale=scale).loss_by_feat(
            pred, TRUTHS, metas()
        )['loss_cls']
        for scale in (1.0, 2.0)
    )
    assert scaled == pytest.approx(2 * plain.item())


def test_an_ignored_region_centred_outside_the_image_still_counts():
    # It covers the first cell, whose predictions must not become negatives.
    head, pred = build(normalizer='none'), random_map() * 0.01
    region = instances([[-200, -200, 64, 64]])
    without = head.loss_by_feat(pred, [instances([])] * 2, metas())
    losses = head.loss_by_feat(pred, [instances([])] * 2, metas(), [region, None])
    assert losses['loss_obj'] < without['loss_obj']


def quiet_map():
    """No object anywhere: all scores near 0."""
    pred = torch.zeros(1, 3, 5 + C, H, W)
    pred[:, :, 4:] = -20
    return pred


def one_object(pred, i, j, a, label, objectness=4.0):
    """A box of exactly the anchor's size in the middle of a cell."""
    pred[0, a, :4, j, i] = 0
    pred[0, a, 4, j, i] = objectness
    pred[0, a, 5 + label, j, i] = 20


def test_prediction_of_a_known_box():
    pred = quiet_map()
    one_object(pred, i=3, j=1, a=1, label=2)
    (result,) = build().predict_by_feat((pred.flatten(1, 2),), metas(1))
    # anchor (2, 3) around the cell's middle (112, 48), cut off at the border above and below
    torch.testing.assert_close(result.bboxes, torch.tensor([[80.0, 0.0, 144.0, 96.0]]))
    assert result.labels.tolist() == [2]
    assert result.scores.item() == pytest.approx(oracle.sigmoid(4.0))


def test_prediction_in_pixels_of_the_original_image():
    pred = quiet_map()
    one_object(pred, i=3, j=1, a=0, label=2)
    meta = metas(1, scale_factor=(0.5, 2.0), ori_shape=(H * 16, W * 64))
    (result,) = build().predict_by_feat((pred.flatten(1, 2),), meta, rescale=True)
    torch.testing.assert_close(result.bboxes, torch.tensor([[192.0, 16.0, 256.0, 32.0]]))


def test_one_head_on_maps_of_several_shapes():
    """Portrait after landscape, of as many cells."""
    head = build()
    for height, width in ((H, W), (W, H)):
        pred = torch.full((1, 3, 5 + C, height, width), -9.0)
        pred[0, 0, :2], pred[0, 0, 2:4] = 0.0, 0.0
        pred[0, 0, 4:, height - 1, 0] = 9.0  # the lowest cell on the left
        size = (height * 32, width * 32)
        meta = dict(batch_input_shape=size, img_shape=size, scale_factor=(1.0, 1.0))
        (result,) = head.predict_by_feat((pred.flatten(1, 2),), [meta])
        assert result.bboxes[0].tolist() == [0, size[0] - 32, 32, size[0]]


def test_a_score_at_the_threshold_is_left_out():
    """As in Darknet, which keeps what exceeds it."""
    head, pred, limit = build(), random_map(1), 0.05
    for _ in range(2):
        cfg = dict(score_thr=limit)
        (result,) = head.predict_by_feat((pred,), metas(1), cfg=cfg, with_nms=False)
        assert len(result) and result.scores.min() > limit
        limit = result.scores.min().item()


def test_one_head_in_several_precisions():
    """After mixed precision the priors are none of half precision."""
    generator = dict(type='YOLOV2AnchorGenerator', anchors=[(1.1, 2.3), (3.7, 1.9), (0.3, 0.7)])
    head, pred = build(anchor_generator=generator), random_map()
    assert pred.dtype == torch.float64
    expected = head.loss_by_feat((pred,), TRUTHS, metas())
    other = build(anchor_generator=generator)
    other.loss_by_feat((pred.float(),), TRUTHS, metas())
    assert other.loss_by_feat((pred,), TRUTHS, metas()) == expected


def test_anchors_that_are_larger_than_the_map_in_one_direction():
    """As in multi-scale training of wide objects: only anchors in pixels are larger in both."""
    wide = dict(type='YOLOV2AnchorGenerator', anchors=[(2.1 * W, 1.0)])
    head, pred = build(anchor_generator=wide), random_map()[:, : 5 + C]
    assert head.loss_by_feat(pred, TRUTHS, metas())['loss_obj'].isfinite()
    large = dict(type='YOLOV2AnchorGenerator', anchors=[(2.1 * W, 2.1 * H)])
    with pytest.raises(ValueError, match='every anchor is twice as large'):
        build(anchor_generator=large).loss_by_feat(pred, TRUTHS, metas())


LETTERBOX = dict(pad_offset=(30.0, 12.0), scale_factor=(0.5, 2.0), ori_shape=(36, 200))


def test_letterbox_by_hand():
    # An image of 200x36 lies at 30..130 x 12..84 in the network input.
    pred = quiet_map()
    one_object(pred, i=3, j=1, a=1, label=2)  # 80..144 x 0..96: cut at the right, above and below
    one_object(pred, i=1, j=1, a=0, label=1, objectness=2.0)  # 32..64 x 32..64: inside
    one_object(pred, i=0, j=1, a=0, label=0, objectness=1.0)  # 0..32 x 32..64: cut at the left
    (result,) = build().predict_by_feat((pred.flatten(1, 2),), metas(1, **LETTERBOX))
    expected = torch.tensor([[80.0, 12, 130, 84], [32, 32, 64, 64], [30, 32, 32, 64]])
    torch.testing.assert_close(result.bboxes, expected)
    (result,) = build().predict_by_feat((pred.flatten(1, 2),), metas(1, **LETTERBOX), rescale=True)
    expected = torch.tensor([[100.0, 0, 200, 36], [4, 10, 68, 26], [0, 10, 4, 26]])
    torch.testing.assert_close(result.bboxes, expected)


def test_an_image_in_the_corner_of_its_letterbox():
    # 100x72 pixels at the upper left, grey on the other two sides.
    pred = quiet_map()
    one_object(pred, i=3, j=1, a=1, label=2)
    meta = metas(1, pad_offset=(0.0, 0.0), scale_factor=(0.5, 2.0), ori_shape=(36, 200))
    (result,) = build().predict_by_feat((pred.flatten(1, 2),), meta)
    torch.testing.assert_close(result.bboxes, torch.tensor([[80.0, 0.0, 100.0, 72.0]]))


def test_boxes_do_not_reach_into_what_a_step_has_padded():
    """``Pad`` and ``FixShapeResize`` have MMDetection take its size for that of the image."""
    pred = quiet_map()
    one_object(pred, i=3, j=1, a=1, label=2)
    meta = metas(1, scale_factor=(0.5, 0.5), ori_shape=(145, 201))  # 100.5 x 72.5 of it
    for rescale, factor in ((False, 1), (True, 2)):
        (result,) = build().predict_by_feat((pred.flatten(1, 2),), meta, rescale=rescale)
        expected = factor * torch.tensor([[80.0, 0.0, 100.0, 72.0]])
        torch.testing.assert_close(result.bboxes, expected)
    # One that fills it stays as it is, whatever the rounding.
    meta = metas(1, scale_factor=(W * 32 / 97, H * 32 / 51), ori_shape=(51, 97))
    (result,) = build().predict_by_feat((pred.flatten(1, 2),), meta)
    torch.testing.assert_close(result.bboxes, torch.tensor([[80.0, 0.0, 144.0, 96.0]]))


def test_what_clipping_leaves_of_a_box_counts_for_its_size():
    """As in MMDetection, which clips before it asks for ``min_bbox_size``."""
    pred = quiet_map()
    one_object(pred, i=3, j=1, a=1, label=2)  # 80..144 x 0..96, of which 20 x 72 are in the image
    one_object(pred, i=4, j=1, a=0, label=1, objectness=2.0)  # 128..160 x 32..64: on the grey
    meta = metas(1, pad_offset=(0.0, 0.0), scale_factor=(0.5, 2.0), ori_shape=(36, 200))
    pred, found, head = pred.flatten(1, 2), {}, build()
    for smallest in (-1, 0, 19, 21):
        head.test_cfg.min_bbox_size = smallest
        (result,) = head.predict_by_feat(pred, meta)
        found[smallest] = len(result)
        assert len(result.scores) == len(result.bboxes)
    assert found == {-1: 2, 0: 1, 19: 1, 21: 0}
    # In the image's own pixels it is 40 wide and 36 high.
    for smallest, number in ((35, 1), (37, 0)):
        head.test_cfg.min_bbox_size = smallest
        assert len(head.predict_by_feat(pred, meta, rescale=True)[0]) == number


def test_letterboxes_of_a_batch_differ():
    pred = random_map(2, dtype=torch.float32)
    mixed = metas(1, **LETTERBOX) + metas(1)
    for both, image in zip(build().predict_by_feat(pred, mixed, rescale=True), range(2)):
        one = slice(image, image + 1)
        (alone,) = build().predict_by_feat(pred[one], mixed[one], rescale=True)
        torch.testing.assert_close(both.bboxes, alone.bboxes)


def test_a_flipped_letterbox_gives_the_flipped_boxes():
    """As in test-time augmentation, which flips within the original image."""
    from mmdet.structures.bbox import bbox_flip

    width = W * 32
    meta = metas(
        1, pad_offset=(20.5, 0.0), scale_factor=((width - 41) / 50, 1.5), ori_shape=(64, 50)
    )
    pred = random_map(1, dtype=torch.float32) * 2
    flipped = pred.reshape(1, 3, 5 + C, H, W).flip(-1).clone()
    flipped[:, :, 0] *= -1
    (result,) = build().predict_by_feat(pred, meta, rescale=True)
    (other,) = build().predict_by_feat(flipped.flatten(1, 2), meta, rescale=True)
    assert len(result) > 5
    torch.testing.assert_close(result.scores, other.scores)
    torch.testing.assert_close(
        result.bboxes, bbox_flip(other.bboxes, (64, 50)), rtol=1e-5, atol=1e-3
    )


def darknet_box(box, net, image):
    """A relative (x, y, w, h) of the network input in the image: Darknet's correct_region_boxes."""
    (net_w, net_h), (w, h) = net, image
    if net_w / w < net_h / h:
        new_w, new_h = net_w, (h * net_w) // w
    else:
        new_w, new_h = (w * net_h) // h, net_h
    x = (box[0] - (net_w - new_w) / 2 / net_w) / (new_w / net_w)
    y = (box[1] - (net_h - new_h) / 2 / net_h) / (new_h / net_h)
    return x, y, box[2] * net_w / new_w, box[3] * net_h / new_h


@pytest.mark.parametrize('image', [(320, 100), (100, 320), (321, 77), (50, 30)])
def test_boxes_leave_the_letterbox_as_in_darknet(image):
    from mmdet.registry import TRANSFORMS

    pipeline = TRANSFORMS.build(dict(type='DarknetResize', scale=(W * 32, H * 32)))
    results = pipeline(dict(img=np.zeros((image[1], image[0], 3), np.uint8)))
    meta = metas(1, ori_shape=(image[1], image[0]))
    meta[0].update({key: results[key] for key in ('img_shape', 'scale_factor', 'pad_offset')})
    pred = quiet_map()
    one_object(pred, i=2, j=1, a=0, label=2)  # one cell, in the middle of the input
    (result,) = build().predict_by_feat((pred.flatten(1, 2),), meta, rescale=True)
    box = (2.5 / W, 1.5 / H, 1 / W, 1 / H)
    x, y, w, h = darknet_box(box, (W * 32, H * 32), image)
    left, right = (max(x - w / 2, 0), min(x + w / 2, 1))
    top, bottom = (max(y - h / 2, 0), min(y + h / 2, 1))
    expected = torch.tensor([[left, top, right, bottom]]) * torch.tensor([*image, *image])
    torch.testing.assert_close(result.bboxes, expected, rtol=1e-5, atol=1e-3)
    # without rescaling they stay in the network input, within the picture in the grey
    (result,) = build().predict_by_feat((pred.flatten(1, 2),), meta)
    low = torch.tensor(meta[0]['pad_offset'])
    assert (result.bboxes[0, :2] >= low - 1e-4).all()
    assert (result.bboxes[0, 2:] <= torch.tensor([W * 32, H * 32]) - low + 1e-3).all()


def test_suppression_equals_darknets_loop():
    """do_nms_sort: class by class, from the best score on, what overlaps by more than 0.45."""
    head, pred = build(), random_map(1, seed=5, dtype=torch.float32) * 3
    cfg = dict(score_thr=0.01, nms=dict(type='nms', iou_threshold=0.45), max_per_img=1000)
    raw = pred.reshape(3, 5 + C, H, W).permute(2, 3, 0, 1)
    boxes, scores = [], []
    for j in range(H):
        for i in range(W):
            for a in range(3):
                slot = raw[j, i, a].tolist()
                x0, y0, x1, y1 = oracle.decode(slot, i, j, ANCHORS[a])
                boxes.append((x0, y0, x1, y1))
                powers = [math.exp(z) for z in slot[5:]]
                scores.append([oracle.sigmoid(slot[4]) * p / sum(powers) for p in powers])
    expected = []
    for c in range(C):
        order = sorted(range(len(boxes)), key=lambda s: -scores[s][c])
        alive = [s for s in order if scores[s][c] > 0.01]
        while alive:
            best, *alive = alive
            expected.append((scores[best][c], c, boxes[best]))
            alive = [s for s in alive if oracle.iou(boxes[best], boxes[s]) <= 0.45]
    expected.sort(reverse=True)
    # whole boxes are suppressed; what is left is clipped
    expected = [
        (score, c, (max(x0, 0), max(y0, 0), min(x1, W * 32), min(y1, H * 32)))
        for score, c, (x0, y0, x1, y1) in expected
    ]
    (result,) = head.predict_by_feat(pred, metas(1), cfg=cfg)
    assert len(result) == len(expected) > 30
    assert result.labels.tolist() == [c for _, c, _ in expected]
    torch.testing.assert_close(result.scores, torch.tensor([s for s, _, _ in expected]))
    torch.testing.assert_close(
        result.bboxes, torch.tensor([b for _, _, b in expected]), rtol=1e-4, atol=1e-3
    )


def test_suppression_is_within_a_class():
    pred = quiet_map()
    one_object(pred, i=2, j=1, a=1, label=0, objectness=4.0)
    one_object(pred, i=2, j=1, a=2, label=0, objectness=2.0)  # overlaps by 0.5
    (result,) = build().predict_by_feat((pred.flatten(1, 2),), metas(1))
    assert result.labels.tolist() == [0]
    one_object(pred, i=2, j=1, a=2, label=3, objectness=2.0)
    pred[0, 2, 5, 1, 2] = -20
    (result,) = build().predict_by_feat((pred.flatten(1, 2),), metas(1))
    assert result.labels.tolist() == [0, 3]


def test_without_suppression_thresholds_and_limits_hold():
    pred = quiet_map()
    for i, objectness in enumerate((4.0, 3.0, 2.0, -2.0)):
        one_object(pred, i=i, j=1, a=0, label=i, objectness=objectness)
    head = build()
    cfg = dict(score_thr=0.5, nms=dict(type='nms', iou_threshold=0.5), max_per_img=2)
    (result,) = head.predict_by_feat((pred.flatten(1, 2),), metas(1), cfg=cfg)
    assert result.labels.tolist() == [0, 1]
    (result,) = head.predict_by_feat((pred.flatten(1, 2),), metas(1), with_nms=False)
    assert result.labels.tolist() == [0, 1, 2, 3]
    (result,) = head.predict_by_feat(
        (pred.flatten(1, 2),), metas(1), cfg=dict(nms_pre=3), with_nms=False
    )
    assert result.labels.tolist() == [0, 1, 2]


@pytest.mark.parametrize('way', [{}, DARKNET, JOINT, dict(loss_cls=CROSS_ENTROPY)])
def test_scores_and_batches(way):
    head, pred = build(**way), random_map(3, dtype=torch.float32)
    raw = pred.view(3, 3, 5 + C, H, W)
    objectness, classes = raw[:, :, 4:5].sigmoid(), raw[:, :, 5:]
    expected = objectness * classes.softmax(2)
    if way is JOINT:
        expected = classes.sigmoid()
    elif way.get('loss_cls') is CROSS_ENTROPY:
        expected = objectness * classes.sigmoid()
    cfg = dict(score_thr=-1, nms_pre=-1)
    results = head.predict_by_feat(pred, metas(3), cfg=cfg, with_nms=False)
    for image, result in enumerate(results):
        wanted = expected[image].flatten().sort(descending=True).values
        torch.testing.assert_close(result.scores, wanted)
        (alone,) = head.predict_by_feat(pred[image : image + 1], metas(1), cfg=cfg, with_nms=False)
        torch.testing.assert_close(alone.bboxes, result.bboxes)


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_half_precision_maps_give_float32_losses(dtype):
    head, pred = build(), random_map(dtype=dtype).requires_grad_()
    losses = head.loss_by_feat((pred,), TRUTHS, metas())
    assert all(value.dtype == torch.float32 for value in losses.values())
    sum(value for key, value in losses.items() if 'loss' in key).backward()
    assert pred.grad.isfinite().all() and pred.grad.dtype == dtype


@pytest.mark.parametrize(
    'way', [{}, DARKNET | PULL, JOINT | PULL, dict(loss_bbox=dict(type='CIoULoss'))]
)
@pytest.mark.parametrize('scale', [100.0, 1e4])
def test_finite_for_wild_maps(way, scale):
    head = build(**way)
    pred = (random_map(dtype=torch.float32) * scale).requires_grad_()
    losses = head.loss_by_feat((pred,), TRUTHS, metas())
    sum(value for key, value in losses.items() if 'loss' in key).backward()
    assert all(value.isfinite() for value in losses.values())
    assert pred.grad.isfinite().all()
    for result in head.predict_by_feat(pred.detach(), metas()):
        assert result.bboxes.isfinite().all()


@pytest.mark.cuda
@pytest.mark.parametrize('way', [{}, DARKNET | PULL, JOINT, dict(loss_cls=CROSS_ENTROPY)])
def test_training_does_not_wait_for_the_gpu(way):
    head = build(**way).cuda()
    pred = random_map(dtype=torch.float32).cuda().requires_grad_()
    truths = [truth.cuda() for truth in TRUTHS]
    head.loss_by_feat(pred, truths, metas())  # makes the priors
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode('error')
    try:
        losses = head.loss_by_feat(pred, truths, metas())
        sum(value for key, value in losses.items() if 'loss' in key).backward()
    finally:
        torch.cuda.set_sync_debug_mode('default')
    assert pred.grad.isfinite().all()


def test_all_anchors_of_a_cell_learn_one_truth():
    pred = random_map()
    truth = [instances([[10, 10, 50, 40]], [3]), instances([], [])]
    options = dict(loss_obj=FOCAL, coord_area_weight=False, normalizer='none')
    assigner = dict(type='YOLOV2Assigner', anchors_per_truth=3, anchor_iou_thr=0.0)
    head = build(**options, train_cfg=dict(assigner=assigner))
    losses = head.loss_by_feat(pred, truth, metas())
    assert losses['num_pos'] == 3 and losses['num_skipped'] == 0
    # Its centre (30, 25) is in the first cell; width 40, height 30.
    raw = pred.reshape(2, 3, 5 + C, H, W)[0, :, :, 0, 0]
    wh = cls = 0.0
    for a, (width, height) in enumerate(ANCHORS):
        wh += halved_square(raw[a, 2].item(), math.log(40 / 32 / width))
        wh += halved_square(raw[a, 3].item(), math.log(30 / 32 / height))
        cls += softmax_ce(raw[a, 5:].tolist(), 3)
    assert losses['loss_wh'].item() == pytest.approx(wh, rel=1e-5)
    assert losses['loss_cls'].item() == pytest.approx(cls, rel=1e-5)


def test_further_anchors_that_do_not_fit_change_nothing():
    pred = random_map()
    assigner = dict(type='YOLOV2Assigner', anchors_per_truth=3, anchor_iou_thr=1.0)
    several = build(loss_obj=FOCAL, train_cfg=dict(assigner=assigner))
    one = build(loss_obj=FOCAL)
    expected = one.loss_by_feat(pred, TRUTHS, metas())
    for key, value in several.loss_by_feat(pred, TRUTHS, metas()).items():
        torch.testing.assert_close(value, expected[key])
