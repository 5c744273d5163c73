"""The gradients of the shipped configs are Darknet's deltas."""

from copy import deepcopy
from functools import cache
from pathlib import Path

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.optim import OptimWrapper
from mmengine.runner import load_checkpoint, save_checkpoint
from mmengine.structures import InstanceData
from torch import nn

import mmdet_yolo2fl  # noqa: F401

from ..conftest import instances
from .darknet_oracle import PREFILL, region_delta

CONFIGS = Path(__file__).parents[2] / 'configs' / 'voc0712'
# Each shipped config, and what it is in Darknet.
VARIANTS = {
    'yolov2_faithful.py': dict(variant='master'),
    'yolov2.py': dict(variant='master'),
    'yolov2_alexeyab.py': dict(variant='alexeyab'),
    'yolov2_alexeyab_focal.py': dict(variant='alexeyab', focal=True),
    'yolov2_logistic.py': dict(variant='logistic'),
}
# Those whose Darknet has independent sigmoids.
SIGMOID = ['yolov2_faithful.py', 'yolov2.py', 'yolov2_logistic.py']
# yolov2-voc.cfg, yolov2.cfg and yolov2-tiny-voc.cfg
REGION = dict(
    thresh=0.6,
    rescore=True,
    bias_match=True,
    softmax_classes=True,
    object_scale=5.0,
    noobject_scale=1.0,
    class_scale=1.0,
    coord_scale=1.0,
)
ANCHORS = ((1.0, 1.0), (2.0, 3.0), (3.0, 2.0))
C, H, W = 4, 3, 5
TRUTHS = [
    # The third falls on the slot of the first; the last is centred on the right border.
    [(10, 10, 50, 40), (64, 20, 150, 90), (12, 12, 48, 42), (100, 64, 160, 96), (150, 3, 170, 30)],
    [],
    [(30, 5, 70, 95)],
]
LABELS = [[0, 3, 2, 1, 1], [], [2]]


@cache
def read(config):
    return Config.fromfile(CONFIGS / config).model


def build(config, anchors=ANCHORS, num_classes=C, **options):
    """The head of a config with sums instead of means; ``options`` replace the config's own."""
    head = deepcopy(read(config).bbox_head)
    head.train_cfg = deepcopy(read(config).train_cfg)
    head.update(num_classes=num_classes, in_channels=4, feat_channels=4, normalizer='none')
    head.anchor_generator.anchors = anchors
    if not options.pop('softmax_classes', True):
        head.loss_cls.use_sigmoid = True
    for ours, darknets in dict(ignore_iou_thr='thresh', bias_match='bias_match').items():
        if darknets in options:
            head.train_cfg.assigner[ours] = options.pop(darknets)
    head.update(options)
    return MODELS.build(head).train()


def largest_difference(
    config='yolov2.py',
    truths=TRUTHS,
    labels=LABELS,
    seen=PREFILL,
    seed=0,
    spread=0.7,
    size=(H, W),
    anchors=ANCHORS,
    num_classes=C,
    but=None,
    **options,
):
    """The largest difference between the gradient and minus Darknet's delta, in float64.

    Args:
        config (str): File of configs/voc0712.
        truths (list): For each image its boxes as corners in pixels.
        labels (list): For each image their classes.
        seen (int): Training images, these included.
        seed (int): Of the random map.
        spread (float): Standard deviation of the random map.
        size (tuple): (rows, columns) of the map.
        anchors (list): (width, height) in cells.
        num_classes (int): C.
        but (dict, optional): What the oracle alone is told.
        **options: Keys of REGION, for both, instead of what the config and Darknet's cfg have.

    Returns:
        float: Over all channels of the map.
    """
    channels = 5 + num_classes
    generator = torch.Generator().manual_seed(seed)
    shape = (len(truths), len(anchors) * channels, *size)
    pred = torch.randn(shape, generator=generator, dtype=torch.float64) * spread
    pred.requires_grad_()
    pixels = (size[0] * 32, size[1] * 32)
    metas = [dict(batch_input_shape=pixels, img_shape=pixels)] * len(truths)
    gt = [
        InstanceData(
            bboxes=torch.tensor(boxes, dtype=torch.float64).reshape(-1, 4),
            labels=torch.tensor(numbers, dtype=torch.int64),
        )
        for boxes, numbers in zip(truths, labels)
    ]
    head = build(config, anchors, num_classes, **options)
    head.seen.fill_(seen - len(truths))  # the head adds the images of this batch
    losses = head.loss_by_feat((pred,), gt, metas)
    sum(value for key, value in losses.items() if key.startswith('loss')).backward()

    def nested(tensor):
        slots = tensor.reshape(len(truths), len(anchors), channels, *size)
        return slots.permute(0, 3, 4, 1, 2)

    raw = nested(pred.detach()).tolist()
    told = dict(variant='master', seen=seen) | VARIANTS.get(config, {}) | REGION | options
    delta = region_delta(raw, truths, labels, anchors, size, **told | (but or {}))
    return (nested(pred.grad) + torch.tensor(delta, dtype=torch.float64)).abs().max().item()


@pytest.mark.parametrize('config', [*VARIANTS, 'yolov2_tiny.py', '../coco/yolov2.py'])
@pytest.mark.parametrize('seen', [4, PREFILL])
def test_gradients_as_shipped(config, seen):
    """With the config's own options, anchors and classes, on the grid of 416 pixels."""
    head = read(config).bbox_head
    generator = torch.Generator().manual_seed(1)
    truths, labels = [], []
    for count in (0, 9, 1, 25):
        centre = torch.rand(count, 2, generator=generator, dtype=torch.float64) * 416
        half = torch.rand(count, 2, generator=generator, dtype=torch.float64) * 100 + 2
        truths.append(torch.cat([centre - half, centre + half], 1).tolist())
        labels.append(torch.randint(head.num_classes, (count,), generator=generator).tolist())
    anchors = head.anchor_generator.anchors
    more = dict(size=(13, 13), anchors=anchors, num_classes=head.num_classes)
    assert largest_difference(config, truths, labels, seen, **more) < 1e-5


@pytest.mark.parametrize('config', VARIANTS)
@pytest.mark.parametrize('rescore', [True, False])
@pytest.mark.parametrize('seen', [3, PREFILL - 1, PREFILL, 10**6])
def test_gradients_are_darknets(config, rescore, seen):
    assert largest_difference(config, rescore=rescore, seen=seen) < 1e-5


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
        dict(coord_scale=20.0),  # a centre on the border of its cell is not moved off it
        dict(spread=3.0),
    ],
    ids=str,
)
def test_other_options(config, options):
    assert largest_difference(config, **options) < 1e-5


# Centre and size in 64ths of the input, which no rounding blurs: centres on borders, duplicates
# and ties between anchors come often.
BOX = st.tuples(*[st.integers(0, 64)] * 2, *[st.integers(1, 64)] * 2)
IMAGE = st.lists(st.tuples(BOX, st.integers(0, C - 1)), max_size=8)


@settings(max_examples=100, deadline=None)
@given(
    config=st.sampled_from(list(VARIANTS)),
    images=st.lists(IMAGE, min_size=1, max_size=3),
    size=st.sampled_from([(3, 5), (5, 3), (4, 4), (1, 6)]),
    softmax=st.booleans(),
    young=st.booleans(),
    seed=st.integers(0, 1000),
    rescore=st.booleans(),
    bias_match=st.booleans(),
    thresh=st.sampled_from([0.2, 0.5, 0.6]),
    class_scale=st.floats(0.1, 5),
    coord_scale=st.floats(0.1, 5),
)
@example(  # four truths on one slot, of two classes
    config='yolov2.py',
    images=[[((8, 8, 13, 21), label) for label in (2, 0, 2, 2)]],
    size=(3, 5),
    softmax=False,
    young=True,
    seed=0,
    rescore=True,
    bias_match=True,
    thresh=0.6,
    class_scale=1.0,
    coord_scale=1.0,
)
def test_any_batch(config, images, size, softmax, young, **options):
    height, width = size[0] * 32, size[1] * 32

    def corners(x, y, w, h):
        x, y, w, h = (n / 64 * side for n, side in zip((x, y, w, h), (width, height) * 2))
        return x - w / 2, y - h / 2, x + w / 2, y + h / 2

    truths = [[corners(*box) for box, _ in image] for image in images]
    labels = [[label for _, label in image] for image in images]
    options.update(
        size=size,
        seen=len(images) if young else PREFILL,
        softmax_classes=softmax or config not in SIGMOID,
    )
    assert largest_difference(config, truths, labels, **options) < 1e-5


@pytest.mark.parametrize('config', VARIANTS)
@pytest.mark.parametrize(
    'but',
    [
        dict(variant='alexeyab'),
        dict(variant='logistic'),
        dict(variant='master'),
        dict(focal=True),
        dict(focal=False),
        dict(seen=1),
        dict(thresh=0.1),
        dict(rescore=False),
        dict(bias_match=False),
        dict(softmax_classes=False),
        dict(object_scale=4.9),
        dict(noobject_scale=1.1),
        dict(class_scale=1.1),
        dict(coord_scale=1.1),
    ],
    ids=str,
)
def test_any_other_equation_would_be_seen(config, but):
    ours = dict(focal=False) | VARIANTS[config]
    (key,) = but
    difference = largest_difference(config, but=but)
    assert difference < 1e-5 if ours.get(key) == but[key] else difference > 1e-3


FEATURES = torch.ones(len(TRUTHS), 4, H, W)


def train_mode():
    """A head, and a function that computes the losses of one batch of three images."""
    head = build('yolov2.py')
    metas = [dict(batch_input_shape=(H * 32, W * 32))] * len(TRUTHS)
    gt = [instances(boxes, numbers) for boxes, numbers in zip(TRUTHS, LABELS)]
    return head, lambda: head.loss_by_feat(head((FEATURES,)), gt, metas)


def test_the_counter_counts_training_images_only():
    head, step = train_mode()
    assert head.seen == 0
    step()
    step()
    assert head.seen == 6
    head.eval()
    step()
    assert head.seen == 6


def test_the_counter_under_gradient_accumulation():
    """Darknet's subdivisions too count one by one, each before its own forward pass."""
    head, step = train_mode()
    head.seen.fill_(PREFILL - 7)
    wrapper = OptimWrapper(torch.optim.SGD(head.parameters(), 1e-3), accumulative_counts=2)
    wrapper.initialize_count_status(head, 0, 4)
    seen, pulls, weights = [], [], [head.conv_pred.weight.detach().clone()]
    for _ in range(4):
        with wrapper.optim_context(head):
            losses = step()
        wrapper.update_params(sum(value for key, value in losses.items() if 'loss' in key))
        seen.append(head.seen.item() - PREFILL)
        pulls.append(losses['loss_prior'].item() > 0)
        weights.append(head.conv_pred.weight.detach().clone())
    assert seen == [-4, -1, 2, 5]
    assert pulls == [True, True, False, False]
    changed = [not torch.equal(a, b) for a, b in zip(weights, weights[1:])]
    assert changed == [False, True, False, True]


def test_the_counter_counts_the_images_of_all_processes(monkeypatch):
    """With two real processes: tests/engine/test_distributed.py."""
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


def test_without_a_pull_there_is_no_such_loss():
    cfg = deepcopy(read('yolov2_fl.py').bbox_head)
    head = MODELS.build(cfg)
    pred = torch.zeros(1, head.num_anchors * head.num_attrib, 13, 13)
    assert 'loss_prior' not in head.loss_by_feat(pred, [instances([])], [{}])
    assert head.seen == 1  # counted all the same, for the header of Darknet's weights


def test_the_counter_is_saved_and_older_checkpoints_load(tmp_path):
    head, step = train_mode()
    step()
    model, path = nn.ModuleDict(dict(bbox_head=head)), str(tmp_path / 'checkpoint.pth')
    state = model.state_dict()
    assert state['bbox_head.seen'] == 3
    save_checkpoint(dict(state_dict=state), path)
    other = train_mode()[0]
    load_checkpoint(nn.ModuleDict(dict(bbox_head=other)), path, 'cpu', strict=True)
    assert other.seen == 3 and other.seen.dtype == torch.int64

    del state['bbox_head.seen']
    save_checkpoint(dict(state_dict=state), path)
    other.seen.fill_(7)
    load_checkpoint(nn.ModuleDict(dict(bbox_head=other)), path, 'cpu', strict=True)
    assert other.seen == 7
    other.load_state_dict(
        {key.removeprefix('bbox_head.'): value for key, value in state.items()}, strict=True
    )
    assert other.seen == 7


def test_the_pull_needs_its_losses():
    cfg = deepcopy(read('yolov2.py').bbox_head)
    cfg.update(loss_xy=None, loss_wh=None, loss_bbox=dict(type='GIoULoss'))
    with pytest.raises(ValueError, match='coord_prefill acts through loss_xy'):
        MODELS.build(cfg)
