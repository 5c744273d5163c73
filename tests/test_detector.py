"""Which checkpoints fit a detector."""

from pathlib import Path

import pytest
import torch
from mmdet.models.dense_heads import FCOSHead
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.registry import DefaultScope
from torch import nn

from mmdet_yolo2fl.detector import check_state_fits, load_detector

ROOT = Path(__file__).parents[1]


def detector(num_classes=2):
    model = nn.Module()
    model.bbox_head = FCOSHead(
        num_classes, in_channels=8, feat_channels=8, stacked_convs=1, norm_cfg=None
    )
    return model


def weights(**options):
    return {name: value.clone() for name, value in detector(**options).state_dict().items()}


def test_its_own_in_a_wrapper_or_not():
    check_state_fits(detector(), weights(), 'a.pth')
    wrapped = nn.Module()
    wrapped.module = detector()
    check_state_fits(wrapped, {f'module.{key}': value for key, value in weights().items()}, 'a.pth')


def test_images_seen_beside_an_average_of_the_weights(tmp_path):
    """MMEngine averages no integers: the average keeps the number of its first iteration."""
    cfg = Config.fromfile(ROOT / 'configs/yolov2_fl.py')
    with DefaultScope.overwrite_default_scope('mmdet'):
        model = MODELS.build(cfg.model)
    state = model.state_dict()
    state['bbox_head.seen'] += 8
    averages = {f'module.{key}': value.clone() for key, value in state.items()}
    averages['module.bbox_head.seen'] += 6142
    torch.save(dict(state_dict=state, ema_state_dict=averages), tmp_path / 'a.pth')
    assert load_detector(cfg, tmp_path / 'a.pth')[0].bbox_head.seen == 6150


def test_names_that_the_head_has_changed_since():
    """FCOS renames them while it loads."""
    new = weights()
    old = {
        key.replace('conv_cls.', 'fcos_cls.').replace('conv_reg.', 'fcos_reg.'): value
        for key, value in new.items()
    }
    assert old.keys() != new.keys()
    check_state_fits(detector(), old, 'a.pth')
    del old['bbox_head.fcos_cls.weight']
    with pytest.raises(ValueError, match=r'a.pth does not fit.*nothing for bbox_head.conv_cls'):
        check_state_fits(detector(), old, 'a.pth')


def test_those_of_other_classes_start_a_training_and_no_test():
    coco = weights(num_classes=80)
    check_state_fits(detector(), coco, 'coco.pth', whole=False)
    with pytest.raises(ValueError, match=r'coco.pth does not fit.*\(80, 8, 3, 3\) for bbox_head'):
        check_state_fits(detector(), coco, 'coco.pth')
    with pytest.raises(ValueError, match='other.pth does not fit the config: it has nothing'):
        check_state_fits(detector(), dict(weight=torch.ones(3)), 'other.pth', whole=False)
