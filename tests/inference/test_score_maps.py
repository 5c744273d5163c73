"""Objectness and pt of every cell, against values worked out by hand."""

import numpy as np
import pytest
import torch
from mmdet.registry import MODELS
from mmengine.registry import init_default_scope

from mmdet_yolo2fl.inference.score_maps import over_image, score_maps
from tests.conftest import instances

META = dict(img_shape=(64, 96), ori_shape=(64, 96), scale_factor=(1.0, 1.0))


def make_head(**changes):
    init_default_scope('mmdet')
    cfg = dict(
        type='YOLOV2Head',
        num_classes=2,
        in_channels=4,
        feat_channels=4,
        anchor_generator=dict(type='YOLOV2AnchorGenerator', anchors=[(1, 1), (3, 3)]),
    )
    return MODELS.build(cfg | changes).eval()


def logit(p):
    return float(np.log(p / (1 - p)))


def make_map(head, scores):
    """Boxes equal to the anchors; ``scores``: {(row, column, anchor, channel): probability}."""
    pred = torch.zeros(2, 3, head.num_anchors, head.num_attrib)
    pred[..., 4:] = logit(0.1)
    for (row, column, anchor, channel), value in scores.items():
        pred[row, column, anchor, channel] = logit(value)
    return pred.flatten(2).permute(2, 0, 1)[None]


def test_objectness_and_pt():
    head = make_head()
    pred = make_map(head, {(0, 1, 0, 4): 0.7, (0, 1, 1, 4): 0.2, (1, 2, 0, 4): 0.6})
    # A truth of one cell in the middle of row 0, column 1: its anchor is the first, and the
    # prediction there, equal to it, is no background. The second says 0.2: right with 0.8.
    maps = score_maps(head, pred, META, instances([(32, 0, 64, 32)]))
    assert maps.objectness == pytest.approx(np.array([[0.1, 0.7, 0.1], [0.1, 0.1, 0.6]]))
    assert maps.pt == pytest.approx(np.array([[0.9, 0.7, 0.9], [0.9, 0.9, 0.4]]))
    # Nothing is there: every score is wrong by itself.
    maps = score_maps(head, pred, META)
    assert maps.pt == pytest.approx(np.array([[0.9, 0.3, 0.9], [0.9, 0.9, 0.4]]))


def test_ignored_cells_are_empty():
    head = make_head(
        anchor_generator=dict(type='YOLOV2AnchorGenerator', anchors=[(1, 1)]),
        train_cfg=dict(assigner=dict(type='YOLOV2Assigner', ignore_iou_thr=0.3)),
    )
    pred = make_map(head, {})
    # Centred in column 0, but close to the prediction of column 1 too (IoU 1/3).
    maps = score_maps(head, pred, META, instances([(15, 0, 47, 32)]))
    assert np.isnan(maps.pt[0, 1]) and np.isfinite(maps.pt).sum() == 5
    assert maps.pt[0, 0] == pytest.approx(0.1)


def test_joint_head():
    head = make_head(loss_obj=None, loss_cls=dict(type='BalancedFocalLoss', use_sigmoid=True))
    pred = make_map(head, {(0, 1, 0, 6): 0.8, (0, 1, 0, 5): 0.3, (0, 1, 0, 4): 0.99})
    maps = score_maps(head, pred, META, instances([(32, 0, 64, 32)], [1]))
    assert maps.objectness[0, 1] == pytest.approx(0.8)  # not that of the unused channel
    assert maps.pt[0, 1] == pytest.approx(0.7)  # the other class is 0.3
    wrong = score_maps(head, pred, META, instances([(32, 0, 64, 32)], [0]))
    assert wrong.pt[0, 1] == pytest.approx(0.2)


def test_over_the_image():
    values = np.zeros((2, 3))
    assert over_image(values, META, 32) == (0, 96, 64, 0)
    # A letterbox: 48x16 doubled to 96x32, with 16 pixels above and below.
    meta = dict(ori_shape=(16, 48), scale_factor=(2.0, 2.0), pad_offset=(0, 16))
    assert over_image(values, meta, 32) == (0, 48, 24, -8)
    # Stretched differently in its two directions, with pixels beside it too.
    meta = dict(ori_shape=(8, 40), scale_factor=(2.0, 4.0), pad_offset=(8, 16))
    assert over_image(values, meta, 32) == (-4, 44, 12, -4)
