"""Every config file of the tree builds, and what it builds works."""

import ast
import inspect
from pathlib import Path

import pytest
import torch
from mmdet.registry import DATASETS, METRICS, MODELS, TRANSFORMS
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import init_default_scope
from torch import nn

import mmdet_yolo2fl  # noqa: F401
from mmdet_yolo2fl.config_parts import leaves
from mmdet_yolo2fl.models import YOLOV2Head

from .conftest import sample

CONFIGS = Path(__file__).parents[1] / 'configs'
LEAVES = sorted(
    str(p.relative_to(CONFIGS)) for p in CONFIGS.rglob('*.py') if '_base_' not in p.parts
)
MODEL_BASES = sorted(
    str(p.relative_to(CONFIGS)) for p in (CONFIGS / '_base_' / 'models').glob('*.py')
)


@pytest.fixture(autouse=True)
def _scope():
    init_default_scope('mmdet')


# Those of MMDetection's own detectors: tests/models/test_anywhere.py
YOLOV2 = [name for name in LEAVES if not name.startswith(('anywhere', 'baselines'))]


@pytest.mark.parametrize('name', YOLOV2 + MODEL_BASES)
def test_model_builds_learns_and_predicts(name):
    cfg = Config.fromfile(CONFIGS / name)
    if cfg.model.backbone.get('init_cfg'):
        assert cfg.model.backbone.init_cfg.get('type') != 'Pretrained'  # nothing to download
    model = MODELS.build(cfg.model)
    classes = cfg.model.bbox_head.num_classes
    truth = sample((64, 96), [[8, 8, 40, 40], [30, 20, 90, 60]], [0, classes - 1])
    channels = len(cfg.model.data_preprocessor.mean)
    images = torch.randint(0, 256, (channels, 64, 96), dtype=torch.uint8)
    # batch normalization with its start values: a batch of one would be too small
    model.eval()
    data = model.data_preprocessor(dict(inputs=[images], data_samples=[truth]), training=False)
    losses = model(**data, mode='loss')
    total = sum(value for key, value in losses.items() if 'loss' in key)
    total.backward()
    assert total.isfinite()
    assert all(p.grad is not None for p in model.parameters() if p.requires_grad)
    with torch.no_grad():
        (result,) = model(**data, mode='predict')
    assert result.pred_instances.bboxes.isfinite().all()


@pytest.mark.parametrize('name', LEAVES)
def test_the_rest_of_a_config_fits_together(name):
    cfg = Config.fromfile(CONFIGS / name)
    classes = cfg.model.bbox_head.num_classes
    for dataset in [*leaves(cfg.train_dataloader.dataset), cfg.val_dataloader.dataset]:
        metainfo = dataset.get('metainfo') or DATASETS.get(dataset.type).METAINFO
        assert len(metainfo['classes']) == classes
        for transform in [*dataset.pipeline, *cfg.tta_pipeline]:
            TRANSFORMS.build(transform)
    assert cfg.auto_scale_lr.base_batch_size > 0
    assert 'enable' in cfg.auto_scale_lr  # MMDetection's own train.py wants it
    evaluator = dict(cfg.val_evaluator)
    assert evaluator['type'] in ('CocoMetric', 'VOCMetric')
    if evaluator['type'] == 'CocoMetric':
        assert evaluator['classwise']
        evaluator['ann_file'] = None  # not here
        # 'auto' would take the first metric: the AP of the first class.
        assert cfg.default_hooks.checkpoint.get('save_best') != 'auto'
    METRICS.build(evaluator)
    wrapper = build_optim_wrapper(
        nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)), cfg.optim_wrapper
    )
    # Darknet decays neither biases nor batch normalization.
    decay = {id(p): g['weight_decay'] for g in wrapper.optimizer.param_groups for p in g['params']}
    assert sorted(value > 0 for value in decay.values()) == [False, False, False, True]


@pytest.mark.parametrize('folder', ['configs', 'studies'])
def test_imports_stand_below_the_base(folder):
    """Above it, OpenMMLab's MMEngine takes the file for one of its other format."""
    files = list(CONFIGS.with_name(folder).rglob('*.py'))
    assert files
    for file in files:
        parts = ast.parse(file.read_text()).body
        base = [i for i, part in enumerate(parts) if ast.unparse(part).startswith('_base_ =')]
        above = parts[: base[0]] if base else []
        assert not any(isinstance(part, (ast.Import, ast.ImportFrom)) for part in above), file


def test_a_head_is_by_default_that_of_the_focal_configs():
    """The start and the weight that did better (docs/results.md)."""
    shipped = Config.fromfile(CONFIGS / 'voc0712/yolov2_fl.py').model.bbox_head
    default = inspect.signature(YOLOV2Head.__init__).parameters
    named = {key: default[key].default for key in shipped.keys() - {'type', 'loss_cls'}}
    given = {key: value for key, value in shipped.items() if key in named}
    required = ('num_classes', 'in_channels', 'anchor_generator')
    assert {**named, **{key: given[key] for key in required}} == given


def sizes(pipeline):
    return [tuple(step.scale) for step in pipeline if step.type.endswith('Resize')]


# Those of studies have the hashes of their results: studies/bccd_tests.py has its own views.
@pytest.mark.parametrize('name', [n for n in LEAVES if not n.startswith(('study', 'baselines'))])
def test_several_views_are_as_large_as_the_test(name):
    cfg = Config.fromfile(CONFIGS / name)
    pipeline = cfg.test_dataloader.dataset.pipeline
    assert sizes(cfg.tta_pipeline) == sizes(pipeline) != []


@pytest.mark.parametrize('folder', ['voc0712', 'coco', 'bccd'])
def test_each_data_set_has_its_configs(folder):
    names = {Path(name).stem for name in LEAVES if name.startswith(folder)}
    assert names >= {
        'yolov2',
        'yolov2_fl',
        'yolov2_tiny',
        'yolov2_tiny_fl',
        'yolov2_mobilenetv2_fl',
    }


@pytest.mark.parametrize(
    'name, num_bytes',
    [
        ('coco/yolov2.py', 203_934_260),
        ('voc0712/yolov2.py', 202_704_260),
        ('coco/yolov2_tiny.py', 44_948_596),
        ('voc0712/yolov2_tiny.py', 63_471_556),
    ],
)
def test_networks_have_as_many_weights_as_darknets_public_files(name, num_bytes):
    # The sizes of yolov2.weights, yolov2-voc.weights, yolov2-tiny.weights and
    # yolov2-tiny-voc.weights: a header of 16 bytes, then 4 bytes a number; with batch
    # normalization each filter has a bias, a scale, a mean and a variance.
    model = MODELS.build(Config.fromfile(CONFIGS / name).model)
    convs = [m for m in model.modules() if isinstance(m, nn.Conv2d)]
    count = sum(m.weight.numel() + (m.out_channels if m.bias is not None else 0) for m in convs)
    count += sum(4 * m.num_features for m in model.modules() if isinstance(m, nn.BatchNorm2d))
    assert 16 + 4 * count == num_bytes
