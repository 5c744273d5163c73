"""Registered parts with options of wrong type, value or name."""

import math

import pytest
import torch
from mmdet.registry import (
    DATASETS,
    HOOKS,
    MODELS,
    OPTIM_WRAPPERS,
    PARAM_SCHEDULERS,
    TASK_UTILS,
    TRANSFORMS,
)
from mmengine.registry import init_default_scope
from mmengine.structures import InstanceData
from torch import nn

import mmdet_yolo2fl  # noqa: F401

from .reaction import react, refuse

# What a hand may write where something else belongs.
JUNK = (
    None,
    'many',
    -1,
    0,
    math.nan,
    math.inf,
    -0.5,
    1.5,
    [],
    [1, 'two'],
    {},
    dict(type='Nothing'),
)
ANCHORS = dict(type='YOLOV2AnchorGenerator', anchors=[(1, 1), (2.0, 3.0)])
FOCAL = dict(type='BalancedFocalLoss')
HEAD = dict(
    type='YOLOV2Head', num_classes=2, in_channels=8, feat_channels=8, anchor_generator=ANCHORS
)


def part(registry, type, *keys, **fixed):
    return registry, dict(type=type, **fixed), keys


PARTS = [
    part(
        MODELS, 'Darknet19', 'in_channels', 'widen_factor', 'channels', 'out_indices',
        'frozen_stages', 'norm_cfg', 'act_cfg', 'conv_cfg', 'init_cfg', widen_factor=0.03125,
    ),
    part(MODELS, 'DarknetTiny', 'widen_factor', 'channels', 'out_indices', widen_factor=0.0625),
    part(
        MODELS, 'YOLOV2Neck', 'in_channels', 'out_channels', 'num_convs', 'passthrough_channels',
        'reorg', 'norm_cfg', in_channels=(4, 8), out_channels=8, passthrough_channels=4,
    ),
    part(
        MODELS, 'YOLOV2Head', 'num_classes', 'in_channels', 'feat_channels', 'stacked_convs',
        'anchor_generator', 'bbox_coder', 'loss_obj', 'loss_cls', 'loss_xy', 'loss_wh',
        'loss_bbox', 'object_scale', 'noobject_scale', 'class_scale', 'coord_scale',
        'coord_prefill', 'normalizer', 'prior_prob', 'norm_cfg', 'train_cfg', 'test_cfg',
        **{key: value for key, value in HEAD.items() if key != 'type'},
    ),
    part(
        MODELS, 'BalancedFocalLoss', 'use_sigmoid', 'gamma', 'alpha', 'alpha_mode', 'activation',
        'class_weight', 'reduction', 'loss_weight', 'label_smoothing', 'poly_epsilon',
    ),
    part(MODELS, 'AutomatedFocalLoss', 'gamma', 'over', 'momentum', 'max_gamma', 'activation'),
    part(MODELS, 'EqualizedFocalLoss', 'num_classes', 'gamma', 'scale_factor', num_classes=2),
    part(
        MODELS, 'DarknetBatchResize', 'random_size_range', 'interval', 'size_divisor',
        'accumulative_counts', 'final_size', 'final_batches',
    ),
    part(TASK_UTILS, 'YOLOV2AnchorGenerator', 'anchors', 'stride', anchors=[(1, 1)]),
    part(
        TASK_UTILS, 'YOLOV2Assigner', 'ignore_iou_thr', 'ignore_iof_thr', 'anchors_per_truth',
        'anchor_iou_thr',
    ),
    part(TRANSFORMS, 'DarknetResize', 'scale', 'interpolation', scale=(64, 64)),
    part(TRANSFORMS, 'DarknetJitter', 'scale', 'jitter', 'variant', scale=(64, 64)),
    part(TRANSFORMS, 'DarknetHSV', 'hue', 'saturation', 'exposure'),
    part(HOOKS, 'ClassWeightHook', 'method', 'beta'),
    part(HOOKS, 'FocalLossAnalysisHook', 'interval', 'easy_pt'),
    part(
        DATASETS, 'TinyTrafficDataset', 'split', 'num_images', 'image_size', 'seed',
        'class_frequencies', 'ann_file', lazy_init=True,
    ),
]  # fmt: skip
# MMEngine's words for a config without a type, or with one that nobody knows.
REGISTRY = ('must contain the key "type"', 'Nothing is not in')
JUNK_CASES = [
    pytest.param(registry, {**fixed, key: junk}, key, id=f'{fixed["type"]}-{key}-{junk}')
    for registry, fixed, keys in PARTS
    for key in keys
    for junk in JUNK
]


@pytest.fixture(autouse=True, scope='module')
def _scope():
    init_default_scope('mmdet')


@pytest.mark.parametrize('registry, cfg, key', JUNK_CASES)
def test_junk_in_an_option(registry, cfg, key):
    """It is refused by the name of the part, or it makes a part whose numbers are finite."""
    reaction = react(
        'config', cfg, lambda: registry.build(dict(cfg)), [cfg['type'], key, *REGISTRY]
    )
    if reaction.error is None and isinstance(reaction.value, nn.Module):
        for name, value in reaction.value.state_dict().items():
            assert torch.as_tensor(value).isfinite().all(), (cfg, name)


@pytest.mark.parametrize('registry, cfg, _', PARTS, ids=lambda value: '')
@pytest.mark.parametrize('wrong', ['a_misspelt_option', 'typ'])
def test_unknown_options(registry, cfg, _, wrong):
    cfg = {**cfg, wrong: 1}
    message = refuse('config', cfg, lambda: registry.build(cfg), [cfg['type'], wrong])
    assert wrong in message


HAND_MADE = [
    (MODELS, dict(type='YOLOV2Hed')),
    (MODELS, dict(HEAD, anchor_generator=dict(ANCHORS, anchors=[(116, 90)]))),
    (MODELS, dict(HEAD, anchor_generator=dict(ANCHORS, anchors=[(1, 1, 1)]))),
    (MODELS, dict(HEAD, anchor_generator=dict(ANCHORS, anchors=[(-1, 1)]))),
    (MODELS, dict(HEAD, anchor_generator=dict(ANCHORS, anchors=[(math.nan, 1)]))),
    (MODELS, dict(HEAD, anchor_generator=dict(ANCHORS, anchors=['ab']))),
    (MODELS, dict(HEAD, anchor_generator=dict(ANCHORS, anchors=7))),
    (MODELS, dict(HEAD, anchor_generator=dict(ANCHORS, anchors=[1, 2]))),
    (MODELS, dict(HEAD, anchor_generator=dict(ANCHORS, stride=(32, 16)))),
    (MODELS, dict(HEAD, anchor_generator=dict(ANCHORS, stride=(32, 32, 32)))),
    (MODELS, dict(HEAD, loss_obj=None)),
    (MODELS, dict(HEAD, loss_xy=None)),
    (MODELS, dict(HEAD, loss_xy=None, loss_wh=None)),
    (MODELS, dict(HEAD, loss_obj=dict(FOCAL, use_sigmoid=False))),
    (MODELS, dict(HEAD, feat_channels=[8, 8], stacked_convs=3)),
    (MODELS, dict(HEAD, coord_prefill=5, loss_xy=None, loss_wh=None, loss_bbox=FOCAL)),
    (MODELS, dict(HEAD, train_cfg=dict(assigner=dict(type='YOLOV2Assigner', ignore_iou_thr=2)))),
    (MODELS, dict(FOCAL, alpha=[0.5, 1.5])),
    (MODELS, dict(FOCAL, alpha=[0.5, math.nan])),
    (MODELS, dict(FOCAL, class_weight=[-1, 1])),
    (MODELS, dict(FOCAL, use_sigmoid=True, activation='softmax')),
    (MODELS, dict(FOCAL, gamma=[1, 2])),
    (MODELS, dict(type='AutomatedFocalLoss', activation='softmax', use_sigmoid=False)),
    (MODELS, dict(type='Darknet19', channels=[8] * 17)),
    (MODELS, dict(type='Darknet19', out_indices=(4, 6))),
    (MODELS, dict(type='YOLOV2Neck', in_channels=(6, 8), passthrough_channels=6)),
    (MODELS, dict(type='YOLOV2Neck', in_channels=(4, 8, 16))),
    (TRANSFORMS, dict(type='DarknetResize', scale=(64, -64))),
    (TRANSFORMS, dict(type='DarknetResize', scale=(64.0, 64.0))),
    (TRANSFORMS, dict(type='DarknetJitter', scale=(64, 64), jitter=0.6, variant='alexeyab')),
    (PARAM_SCHEDULERS, dict(type='BurnInLR', burn_in=0)),
    (PARAM_SCHEDULERS, dict(type='BurnInLR', burn_in=2.5)),
    (PARAM_SCHEDULERS, dict(type='BurnInLR', power=-1)),
    (OPTIM_WRAPPERS, dict(type='YOLOV2AmpOptimWrapper', dtype='float16')),
    (OPTIM_WRAPPERS, dict(type='YOLOV2AmpOptimWrapper', dtype='float7')),
    (HOOKS, dict(type='ClassWeightHook', beta=1)),
    (HOOKS, dict(type='FocalLossAnalysisHook', easy_pt=1)),
    (DATASETS, dict(type='TinyTrafficDataset', class_frequencies=(1, 1, 1), lazy_init=True)),
    (DATASETS, dict(type='TinyTrafficDataset', class_frequencies=(0, 0, 0, 0), lazy_init=True)),
    (DATASETS, dict(type='TinyTrafficDataset', image_size=(32, 64), lazy_init=True)),
    (DATASETS, dict(type='TinyTrafficDataset', data_prefix=dict(img='x'), lazy_init=True)),
]


@pytest.mark.parametrize('registry, cfg', HAND_MADE, ids=lambda value: '')
def test_options_that_contradict_each_other(registry, cfg, monkeypatch):
    monkeypatch.setattr(
        'mmdet_yolo2fl.engine.optimizers.amp_optim_wrapper.get_device', lambda: 'cpu'
    )
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.1)
    given = dict(optimizer=optimizer) if registry in (PARAM_SCHEDULERS, OPTIM_WRAPPERS) else {}
    refuse('config', cfg, lambda: registry.build({**cfg, **given}), [*cfg, cfg['type'], 'YOLOV2'])


def truths(boxes, labels):
    boxes = torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)
    return InstanceData(bboxes=boxes, labels=torch.tensor(labels, dtype=torch.long))


BOX = [8.0, 8, 40, 40]
BAD_TRUTHS = {
    'label too large': ([BOX], [2]),
    'label negative': ([BOX], [-1]),
    'NaN': ([[math.nan] * 4, BOX], [0, 1]),
    'infinite': ([[0, 0, math.inf, 5]], [0]),
    'turned round': ([[40, 40, 8, 8]], [0]),
    'no area': ([[8, 8, 8, 20]], [1]),
    'outside': ([[500, 500, 600, 600]], [0]),
    'huge': ([[-1e30, -1e30, 1e30, 1e30]], [0]),
    'none': ([], []),
}


@pytest.mark.parametrize('what', BAD_TRUTHS)
@pytest.mark.parametrize('fill', [0.0, 1e4, -1e4], ids=str)
def test_bad_truths_in_the_losses(what, fill):
    """An error that names the labels, or finite losses and a count of what was left out."""
    boxes, labels = BAD_TRUTHS[what]
    head = MODELS.build(dict(HEAD, loss_cls=dict(FOCAL, use_sigmoid=False)))
    head.train()
    raw = torch.full((1, 14, 2, 2), fill, requires_grad=True)
    meta = dict(img_shape=(64, 64), ori_shape=(64, 64), scale_factor=(1.0, 1.0))
    meta['batch_input_shape'] = (64, 64)
    reaction = react(
        'annotation',
        ('truths', what, fill),
        lambda: head.loss_by_feat((raw,), [truths(boxes, labels)], [meta]),
        ['labels'],
    )
    if what.startswith('label'):
        assert '0..1' in reaction.message
        return
    losses = reaction.value
    assert all(value.isfinite().all() for value in losses.values())
    total = sum(value for name, value in losses.items() if 'loss' in name)
    (gradient,) = torch.autograd.grad(total, raw)
    assert gradient.isfinite().all()
    bad = sum(box != BOX for box in boxes)
    assert losses['num_skipped'] == bad
