"""The gradients of the shipped configs are Darknet's deltas."""

from copy import deepcopy
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.structures import InstanceData

import mmdet_yolo2fl  # noqa: F401

from ..conftest import instances
from .darknet_oracle import PREFILL, region_delta

CONFIGS = Path(__file__).parents[2] / 'configs' / 'voc0712'
# Each shipped config, and what it is in Darknet.
VARIANTS = {
    'yolov2_darknet.py': dict(variant='master'),
    'yolov2.py': dict(variant='master'),
    'yolov2_alexeyab.py': dict(variant='alexeyab'),
    'yolov2_alexeyab_focal.py': dict(variant='alexeyab', focal=True),
    'yolov2_logistic.py': dict(variant='logistic'),
}
ANCHORS = ((1.0, 1.0), (2.0, 3.0), (3.0, 2.0))
C, H, W = 4, 3, 5
TRUTHS = [
    # The third falls on the slot of the first; the last is centred on the right border.
    [(10, 10, 50, 40), (64, 20, 150, 90), (12, 12, 48, 42), (100, 64, 160, 96), (150, 3, 170, 30)],
    [],
    [(30, 5, 70, 95)],
]
LABELS = [[0, 3, 2, 1, 1], [], [2]]


def build(config, seen, thresh, rescore, bias_match, softmax_classes, **scales):
    """The head of a config, shrunk, with sums instead of means."""
    cfg = Config.fromfile(CONFIGS / config).model
    head = deepcopy(cfg.bbox_head)
    head.update(
        num_classes=C,
        in_channels=4,
        feat_channels=4,
        normalizer='none',
        rescore=rescore,
        train_cfg=deepcopy(cfg.train_cfg),
        **scales,
    )
    head.anchor_generator.anchors = ANCHORS
    head.train_cfg.assigner.update(ignore_iou_thr=thresh, bias_match=bias_match)
    if not softmax_classes:
        head.loss_cls.use_sigmoid = True
    head = MODELS.build(head).train()
    head.seen.fill_(seen - len(TRUTHS))  # the head adds the images of this batch
    return head


def largest_difference(
    config='yolov2.py',
    seed=0,
    spread=0.7,
    truths=TRUTHS,
    labels=LABELS,
    seen=PREFILL,
    thresh=0.6,
    rescore=True,
    bias_match=True,
    softmax_classes=True,
    object_scale=5.0,
    noobject_scale=1.0,
    class_scale=1.0,
    coord_scale=1.0,
):
    """Largest difference of gradient and minus delta, in float64."""
    options = dict(
        seen=seen,
        thresh=thresh,
        rescore=rescore,
        bias_match=bias_match,
        softmax_classes=softmax_classes,
        object_scale=object_scale,
        noobject_scale=noobject_scale,
        class_scale=class_scale,
        coord_scale=coord_scale,
    )
    generator = torch.Generator().manual_seed(seed)
    shape = (len(truths), len(ANCHORS) * (5 + C), H, W)
    pred = torch.randn(shape, generator=generator, dtype=torch.float64) * spread
    pred.requires_grad_()
    size = (H * 32, W * 32)
    metas = [dict(batch_input_shape=size, img_shape=size)] * len(truths)
    gt = [
        InstanceData(
            bboxes=torch.tensor(boxes, dtype=torch.float64).reshape(-1, 4),
            labels=torch.tensor(numbers, dtype=torch.int64),
        )
        for boxes, numbers in zip(truths, labels)
    ]
    losses = build(config, **options).loss_by_feat((pred,), gt, metas)
    sum(value for key, value in losses.items() if key.startswith('loss')).backward()

    def nested(tensor):
        return tensor.reshape(len(truths), len(ANCHORS), 5 + C, H, W).permute(0, 3, 4, 1, 2)

    delta = region_delta(
        nested(pred.detach()).tolist(),
        truths,
        labels,
        ANCHORS,
        (H, W),
        **VARIANTS[config],
        **options,
    )
    return (nested(pred.grad) + torch.tensor(delta, dtype=torch.float64)).abs().max().item()


@pytest.mark.parametrize('config', VARIANTS)
@pytest.mark.parametrize('rescore', [True, False])
@pytest.mark.parametrize('seen', [3, PREFILL - 1, PREFILL, 10**6])
def test_gradients_are_darknets(config, rescore, seen):
    assert largest_difference(config, rescore=rescore, seen=seen) < 1e-5


SIGMOID = ['yolov2_darknet.py', 'yolov2.py', 'yolov2_logistic.py']


@pytest.mark.parametrize('config', SIGMOID)
@pytest.mark.parametrize('seen', [3, PREFILL])
def test_independent_sigmoids(config, seen):
    """softmax=0 in master; two truths of different classes share a slot in TRUTHS."""
    assert largest_difference(config, softmax_classes=False, seen=seen) < 1e-5


@pytest.mark.parametrize('config', VARIANTS)
@pytest.mark.parametrize(
    'options',
    [
        dict(bias_match=False),
        dict(bias_match=False, seen=3, rescore=False),
        dict(thresh=0.1),
        dict(thresh=0.9),
        dict(object_scale=2.5, noobject_scale=0.3, class_scale=1.7, coord_scale=4.0, seen=3),
        dict(spread=3.0),
    ],
    ids=str,
)
def test_other_options(config, options):
    assert largest_difference(config, **options) < 1e-5


def box(numbers):
    x, y, w, h = numbers
    return (x - w / 2, y - h / 2, x + w / 2, y + h / 2)


BOX = st.tuples(
    st.floats(0, W * 32), st.floats(0, H * 32), st.floats(2, W * 32), st.floats(2, H * 32)
).map(box)


@settings(max_examples=40, deadline=None)
@given(
    config=st.sampled_from(list(VARIANTS)),
    images=st.lists(
        st.lists(st.tuples(BOX, st.integers(0, C - 1)), max_size=6), min_size=3, max_size=3
    ),
    seed=st.integers(0, 1000),
    rescore=st.booleans(),
    bias_match=st.booleans(),
    thresh=st.sampled_from([0.2, 0.5, 0.6]),
    seen=st.sampled_from([3, PREFILL]),
)
def test_any_batch(config, images, seed, **options):
    truths = [[one for one, _ in image] for image in images]
    labels = [[label for _, label in image] for image in images]
    assert largest_difference(config, seed, truths=truths, labels=labels, **options) < 1e-5


def test_a_difference_would_be_seen():
    """The cases do tell the variants, the counter and the options apart."""
    config = VARIANTS['yolov2.py']
    VARIANTS['yolov2.py'] = dict(variant='alexeyab')
    try:
        assert largest_difference('yolov2.py') > 1e-2
        VARIANTS['yolov2.py'] = dict(variant='logistic')
        assert largest_difference('yolov2.py') > 1e-2
    finally:
        VARIANTS['yolov2.py'] = config


def train_mode(config='yolov2.py'):
    options = dict(thresh=0.6, rescore=True, bias_match=True, softmax_classes=True)
    head = build(config, seen=len(TRUTHS), **options)
    pred = torch.ones(len(TRUTHS), 3 * (5 + C), H, W)
    metas = [dict(batch_input_shape=(H * 32, W * 32))] * len(TRUTHS)
    gt = [instances(boxes, numbers) for boxes, numbers in zip(TRUTHS, LABELS)]
    return head, lambda: head.loss_by_feat((pred,), gt, metas)


def test_the_counter_counts_training_images_only():
    head, step = train_mode()
    assert head.seen == 0
    step()
    step()
    assert head.seen == 6
    head.eval()
    step()
    assert head.seen == 6


def test_the_counter_counts_the_images_of_all_processes(monkeypatch):
    from mmdet_yolo2fl.models.dense_heads import yolov2_head

    monkeypatch.setattr(yolov2_head, 'get_world_size', lambda: 4)
    head, step = train_mode()
    step()
    assert head.seen == 12


def test_the_pull_ends_at_the_image():
    head, step = train_mode()
    head.seen.fill_(PREFILL - 4)  # 12799 with this batch
    assert step()['loss_prior'] > 0
    assert step()['loss_prior'] == 0


def test_the_counter_is_saved_and_older_checkpoints_load():
    head, step = train_mode()
    step()
    state = head.state_dict()
    assert state['seen'] == 3
    other, _ = train_mode()
    other.load_state_dict(state)
    assert other.seen == 3
    del state['seen']
    other.seen.fill_(7)
    other.load_state_dict(state)
    assert other.seen == 7


def test_the_pull_needs_its_losses():
    cfg = Config.fromfile(CONFIGS / 'yolov2.py').model.bbox_head
    cfg.update(loss_xy=None, loss_wh=None, loss_bbox=dict(type='GIoULoss'))
    with pytest.raises(ValueError, match='coord_prefill acts through loss_xy'):
        MODELS.build(cfg)
