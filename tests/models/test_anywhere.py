"""The same loss lines in MMDetection's own detectors: configs/anywhere."""

import copy
import re
import textwrap
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from mmdet.models.losses import FocalLoss
from mmdet.registry import DATASETS, HOOKS, MODELS
from mmengine.config import Config
from mmengine.hub import get_config
from mmengine.logging import MessageHub, MMLogger
from mmengine.registry import DefaultScope

from mmdet_yolo2fl.datasets import TinyTrafficDataset
from mmdet_yolo2fl.models import BalancedFocalLoss, EqualizedFocalLoss, FocalSSDHead

from ..conftest import sample

ROOT = Path(__file__).parents[2]
CONFIGS = sorted((ROOT / 'configs/anywhere').glob('*.py'))
BASELINES = sorted((ROOT / 'configs/baselines').glob('*.py'))
SIZE = 160


@pytest.fixture(autouse=True)
def _scope():
    with DefaultScope.overwrite_default_scope('mmdet'):
        yield


def detector(name, change=None):
    """The detector of a config, with the weights that seed 0 gives."""
    cfg = Config.fromfile(ROOT / 'configs/anywhere' / f'{name}.py')
    if change is not None:
        change(cfg.model.bbox_head)
    torch.manual_seed(0)
    model = MODELS.build(cfg.model)
    model.init_weights()
    return model.train()


def batch(size, last):
    torch.manual_seed(1)
    images = torch.randint(0, 256, (2, 3, size, size), dtype=torch.uint8)
    samples = [
        sample((size, size), [(10, 20, 90, 120), (60, 70, 150, 155)], [0, last]),
        sample((size, size), [(30, 30, 80, 75)], [2]),
    ]
    return dict(inputs=list(images), data_samples=samples)


def losses_of(model, size=SIZE):
    data = model.data_preprocessor(batch(size, model.bbox_head.num_classes - 1), True)
    losses = model(**data, mode='loss')
    return {
        name: sum(torch.as_tensor(x).sum() for x in _list(value)) for name, value in losses.items()
    }


def _list(value):
    return value if isinstance(value, (list, tuple)) else [value]


@pytest.mark.parametrize('path', CONFIGS + BASELINES, ids=lambda path: path.stem)
def test_config_takes_a_training_step(path):
    model = detector(path.with_suffix(''))
    family = [m for m in model.modules() if isinstance(m, BalancedFocalLoss)]
    # The baselines are MMDetection's own; RetinaNet's focal loss is not, in mixed precision.
    assert bool(family) == (path in CONFIGS or path.stem == 'bccd_retinanet_r50')
    # From scratch nothing is frozen, as MMDetection has it for backbones with pretrained weights.
    assert all(part.training for part in model.modules())
    assert all(weight.requires_grad for weight in model.parameters())
    size = 300 if path.stem == 'bccd_ssd300' else SIZE  # no map of it may vanish
    losses = losses_of(model, size)
    total = sum(value for name, value in losses.items() if 'loss' in name)
    assert total.isfinite()
    total.backward()
    # The scores learn: the last layer that makes them has a gradient.
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)
    optimizer = torch.optim.SGD(model.bbox_head.parameters(), lr=1e-4)
    optimizer.step()
    assert sum(v for n, v in losses_of(model, size).items() if 'loss' in n) != total
    model.eval()
    if model.bbox_head.test_cfg:  # not of Conditional DETR, which has no threshold
        # Untrained, RTMDet's boxes are inside out.
        model.bbox_head.test_cfg.update(score_thr=0.0, conf_thr=0.0, min_bbox_size=-1)
    for one in model.val_step(batch(size, 2)):
        boxes = one.pred_instances.bboxes
        assert len(boxes) and boxes.isfinite().all()


def test_yolox_has_its_l1_loss_in_the_last_epochs():
    cfg = Config.fromfile(ROOT / 'configs/baselines/bccd_yolox_tiny.py')
    model = detector('../baselines/bccd_yolox_tiny')
    (hook,) = (one for one in cfg.custom_hooks if one.type == 'YOLOXModeSwitchHook')
    hook = HOOKS.build(hook)
    images = TinyTrafficDataset(split='train', num_images=4, lazy_init=True)
    wrapper = dict(cfg.train_dataloader.dataset, dataset=images)
    runner = SimpleNamespace(
        model=model,
        max_epochs=cfg.train_cfg.max_epochs,
        train_dataloader=SimpleNamespace(dataset=DATASETS.build(wrapper)),
        logger=MMLogger.get_current_instance(),
    )
    for runner.epoch, end in ((0, False), (37, False), (38, True), (39, True)):
        hook.before_train_epoch(runner)
        assert ('loss_l1' in losses_of(model)) == end


def swap(slot, kind, **options):
    def change(head):
        head[slot] = dict(type=kind, **options)

    return change


SAME_FOCAL = dict(use_sigmoid=True, gamma=1.5, alpha=0.3)


@pytest.mark.parametrize(
    'name, slot, ours, theirs, options',
    [
        ('retinanet_r18_fl', 'loss_cls', 'BalancedFocalLoss', 'FocalLoss', SAME_FOCAL),
        ('fcos_r18_fl', 'loss_cls', 'BalancedFocalLoss', 'FocalLoss', SAME_FOCAL),
        ('atss_r18_fl', 'loss_cls', 'BalancedFocalLoss', 'FocalLoss', SAME_FOCAL),
        ('conditional_detr_r18_fl', 'loss_cls', 'BalancedFocalLoss', 'FocalLoss', SAME_FOCAL),
    ],
)
def test_equals_mmdetections_focal_loss_in_its_heads(name, slot, ours, theirs, options):
    mine = losses_of(detector(name, swap(slot, ours, **options)))
    other = losses_of(detector(name, swap(slot, theirs, **options)))
    assert mine.keys() == other.keys()
    for key, value in other.items():
        torch.testing.assert_close(mine[key], value, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize('slot', ['loss_cls', 'loss_conf'])
def test_without_focusing_equals_the_cross_entropy_of_yolov3(slot):
    options = dict(use_sigmoid=True, reduction='sum', loss_weight=0.7)
    name = 'yolov3_mobilenetv2_fl'
    mine = losses_of(
        detector(name, swap(slot, 'BalancedFocalLoss', gamma=0, alpha=None, **options))
    )
    other = losses_of(detector(name, swap(slot, 'CrossEntropyLoss', **options)))
    torch.testing.assert_close(mine[slot], other[slot], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    'epoch, slot, mine, theirs',
    [
        (
            0,
            'initial_loss_cls',
            dict(gamma=1.5, alpha=0.3),
            dict(type='FocalLoss', gamma=1.5, alpha=0.3),
        ),
        # From epoch 4 on the labels are the alignments.
        (4, 'loss_cls', dict(gamma=0, alpha=None), dict(type='QualityFocalLoss', beta=0)),
    ],
)
def test_tood_gives_probabilities(epoch, slot, mine, theirs, monkeypatch):
    cfg = get_config('mmdet::tood/tood_r50_fpn_1x_coco.py').model
    cfg.bbox_head.update(num_classes=4, in_channels=32, feat_channels=32, stacked_convs=2)
    cfg.bbox_head.anchor_generator.strides = [8, 16]
    cfg.bbox_head.train_cfg = cfg.train_cfg
    samples = batch(SIZE, 3)['data_samples']
    for one in samples:
        one.set_metainfo(dict(pad_shape=(SIZE, SIZE)))
    torch.manual_seed(0)
    features = [torch.randn(2, 32, SIZE // stride, SIZE // stride) for stride in (8, 16)]
    # MMDetection's head asks it.
    monkeypatch.setattr(MessageHub, '_instance_dict', MessageHub._instance_dict.copy())
    MessageHub.get_instance('tood').update_info('epoch', epoch)
    found = []
    for loss in (dict(type='BalancedFocalLoss') | mine, theirs):
        cfg.bbox_head[slot] = loss | dict(use_sigmoid=True, activated=True)
        torch.manual_seed(0)
        head = MODELS.build(cfg.bbox_head).train()
        head.init_weights()
        found.append(head.loss(features, samples)['loss_cls'])
    assert sum(found[0]) > 0
    torch.testing.assert_close(*found, rtol=1e-4, atol=1e-6)


def test_without_focusing_equals_the_quality_loss_of_rtmdet():
    name, options = 'rtmdet_tiny_fl', dict(use_sigmoid=True)
    mine = losses_of(
        detector(name, swap('loss_cls', 'BalancedFocalLoss', gamma=0, alpha=None, **options))
    )
    other = losses_of(detector(name, swap('loss_cls', 'QualityFocalLoss', beta=0, **options)))
    torch.testing.assert_close(mine['loss_cls'], other['loss_cls'], rtol=1e-4, atol=1e-5)


def test_ssd_has_no_background_class_and_starts_from_the_prior():
    model = detector('ssdlite_mobilenetv2_fl')
    head = model.bbox_head
    assert isinstance(head, FocalSSDHead) and head.use_sigmoid_cls and head.cls_out_channels == 4
    for layers, priors in zip(head.cls_convs, head.num_base_priors):
        assert layers[-1].out_channels == 4 * priors
        torch.testing.assert_close(
            layers[-1].bias.sigmoid(), torch.full((4 * priors,), 0.01), rtol=1e-4, atol=0
        )


def test_ssd_loss_equals_the_sum_over_all_anchors():
    head = detector('ssdlite_mobilenetv2_fl').bbox_head
    torch.manual_seed(2)
    logits, labels = torch.randn(50, 4), torch.randint(0, 5, (50,))
    weight = (torch.rand(50) > 0.1).float()
    boxes, targets = torch.randn(50, 4), torch.randn(50, 4)
    positive = (labels < 4).float()[:, None].expand(-1, 4)
    loss_cls, loss_bbox = head.loss_by_feat_single(
        logits, boxes, None, labels, weight, targets, positive, avg_factor=9
    )
    expected = FocalLoss(gamma=2.0, alpha=0.25)(logits, labels, weight, avg_factor=9)
    torch.testing.assert_close(loss_cls, expected[None], rtol=1e-4, atol=1e-6)
    expected = torch.nn.functional.smooth_l1_loss(boxes, targets, reduction='none')
    torch.testing.assert_close(loss_bbox, (expected * positive).sum() / 9, rtol=1e-5, atol=1e-6)


def test_ssd_predicts_boxes_of_all_classes():
    model = detector('ssdlite_mobilenetv2_fl').eval()
    model.bbox_head.test_cfg.score_thr = 0.0
    data = model.data_preprocessor(
        dict(inputs=[torch.zeros(3, SIZE, SIZE)], data_samples=[sample((SIZE, SIZE))])
    )
    with torch.no_grad():
        (result,) = model(**data, mode='predict')
    assert set(result.pred_instances.labels.tolist()) <= {0, 1, 2, 3}
    assert len(result.pred_instances) > 0


@pytest.mark.parametrize(
    'change, message',
    [
        (dict(loss_cls=dict(type='CrossEntropyLoss')), 'use_sigmoid=True'),
        (dict(prior_prob=1.5), 'prior_prob'),
    ],
)
def test_ssd_refuses(change, message):
    with pytest.raises(ValueError, match=message):
        detector(
            'ssdlite_mobilenetv2_fl',
            lambda head: [head.__setitem__(*item) for item in change.items()],
        )


def test_ssd_takes_an_iou_loss():
    def change(head):
        head.update(reg_decoded_bbox=True, loss_bbox=dict(type='GIoULoss', loss_weight=2.0))

    losses = losses_of(detector('ssdlite_mobilenetv2_fl', change))
    assert 0 < losses['loss_bbox'] < 50


def test_equalized_loss_learns_its_ratios_in_atss():
    model = detector('atss_r18_fl')
    loss = model.bbox_head.loss_cls
    assert isinstance(loss, EqualizedFocalLoss)
    losses_of(model)
    # No object of class 1 is in the batch: nothing but negatives, the most focusing.
    assert loss.gradient_ratio.argmin() == 1 and loss.gradient_ratio[1] == 0
    assert loss.gamma[1] == loss.gamma.max() == 10


SNIPPETS = re.findall(
    r'```python\n(_base_ = .*?)```', (ROOT / 'docs/focal_loss_anywhere.md').read_text(), re.S
)


@pytest.mark.parametrize('number', range(len(SNIPPETS)))
def test_snippet_of_the_docs(number, tmp_path):
    file = tmp_path / 'config.py'
    file.write_text(SNIPPETS[number])
    cfg = Config.fromfile(file)
    model = copy.deepcopy(cfg.model)
    for part in ('backbone', 'neck'):  # nothing is downloaded here
        if part in model:
            model[part].pop('init_cfg', None)
    built = MODELS.build(model)
    wanted = set(re.findall(r"type='(\w*(?:FocalLoss|SeesawLoss|EQLV2Loss))'", SNIPPETS[number]))
    wanted = wanted or {'GHMC' if 'ghm' in SNIPPETS[number] else 'CrossEntropyLoss'}
    assert wanted <= {type(module).__name__ for module in built.modules()}


def test_images_of_rare_classes_more_often(tmp_path):
    page = (ROOT / 'docs/own_data.md').read_text()
    lines = re.search(r"```python\n(   _base_ = './mine.py'.*?)   ```", page, re.S)[1]
    mine = Config.fromfile(ROOT / 'configs/bccd/yolov2_fl.py')
    mine.dump(tmp_path / 'mine.py')
    (tmp_path / 'more.py').write_text(textwrap.dedent(lines))
    found = Config.fromfile(tmp_path / 'more.py').train_dataloader
    assert found.dataset.pop('type') == 'ClassBalancedDataset'
    assert found.dataset == dict(oversample_thr=0.5, dataset=mine.train_dataloader.dataset)
    assert found.batch_size == mine.train_dataloader.batch_size


def test_docs_have_a_snippet_for_each_detector():
    assert len(SNIPPETS) >= len(CONFIGS)


def test_lines_of_the_readme_build():
    page = (ROOT / 'README.md').read_text()
    block = re.search(r'## In a config that you have.*?```python\n(.*?)```', page, re.S)[1]
    parts = re.split(r'\n(?=model = |custom_hooks = )', block)
    names = {}
    exec(parts[0], names)
    assert len(parts) == 10
    for part in parts[1:]:
        exec(part, names)
        for slot, cfg in names['model']['bbox_head'].items():
            if slot.startswith('loss'):
                loss = MODELS.build({key: v for key, v in cfg.items() if key != '_delete_'})
                pred = torch.randn(4, 3)
                assert loss(pred, torch.tensor([0, 1, 2, 3])).isfinite()
            else:
                assert MODELS.get(cfg) is FocalSSDHead
    assert all(HOOKS.build(hook) for hook in names['custom_hooks'])


def test_a_config_of_mmengines_other_format(tmp_path):
    """Where it does not look at `custom_imports`."""
    (tmp_path / 'base.py').write_text(
        'from mmdet.models import FocalLoss\n'
        'model = dict(bbox_head=dict(loss_cls=dict(type=FocalLoss, alpha=0.3), num_classes=3))\n'
    )
    file = tmp_path / 'mine.py'
    file.write_text(
        'from mmengine.config import read_base\n'
        'with read_base():\n    from .base import *\n'
        'from mmdet_yolo2fl.engine import ClassWeightHook\n'
        'from mmdet_yolo2fl.models import BalancedFocalLoss\n'
        'loss = dict(_delete_=True, type=BalancedFocalLoss, gamma=1.5)\n'
        'model.merge(dict(bbox_head=dict(loss_cls=loss)))\nhook = dict(type=ClassWeightHook)\n'
    )
    cfg = Config.fromfile(file)
    head = cfg.model.bbox_head
    assert head.num_classes == 3 and 'alpha' not in head.loss_cls
    assert MODELS.build(head.loss_cls).gamma == 1.5 and HOOKS.build(cfg.hook).beta == 0.999


def test_ssd_decodes_boxes_for_an_iou_loss():
    iou = dict(reg_decoded_bbox=True, loss_bbox=dict(type='GIoULoss'))
    head = detector('ssdlite_mobilenetv2_fl', lambda head: head.update(iou)).bbox_head
    anchors, ones = torch.tensor([[10.0, 10, 50, 50], [0, 0, 20, 40]]), torch.ones(2, 4)
    labels = torch.tensor([0, 1])
    deltas = torch.zeros(2, 4)  # they are the anchors
    _, loss = head.loss_by_feat_single(
        torch.zeros(2, 4), deltas, anchors, labels, ones[:, 0], anchors, ones, 2
    )
    assert loss.item() == pytest.approx(0, abs=1e-5)
