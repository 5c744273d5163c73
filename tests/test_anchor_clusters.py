from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from mmdet.structures.bbox import bbox_overlaps
from mmengine.config import Config, ConfigDict
from mmengine.registry import DefaultScope
from PIL import Image

from mmdet_yolo2fl import anchor_clusters
from mmdet_yolo2fl.anchor_clusters import (
    average_iou,
    cluster_anchors,
    load_box_sizes,
    size_iou,
)
from mmdet_yolo2fl.resizing import size_at_test
from tests.tools.coco_file import write_coco

ROOT = Path(__file__).parents[1]
SIZES = arrays(float, st.tuples(st.integers(6, 30), st.just(2)), elements=st.integers(1, 200))


def test_size_iou_by_hand():
    # 1x2 in 2x2; crossed 4x1 and 1x4; equal.
    iou = size_iou(np.array([[1, 2], [4, 1], [3, 3]]), np.array([[2, 2], [1, 4], [3, 3]]))
    expected = [[1 / 2, 2 / 4, 2 / 9], [2 / 6, 1 / 7, 3 / 10], [4 / 9, 3 / 10, 1]]
    np.testing.assert_allclose(iou, expected)


def test_size_iou_is_mmdetections_for_equal_centres():
    rng = np.random.default_rng(0)
    sizes, anchors = rng.uniform(0.1, 9, (40, 2)), rng.uniform(0.1, 9, (5, 2))
    boxes = [torch.from_numpy(np.hstack([-x / 2, x / 2])) for x in (sizes, anchors)]
    np.testing.assert_allclose(size_iou(sizes, anchors), bbox_overlaps(*boxes), atol=1e-6)


def test_separated_clusters_are_found_exactly():
    rng = np.random.default_rng(1)
    centres = np.array([(10.0, 12), (40, 160), (200, 50), (300, 290)])
    offsets = rng.uniform(-1, 1, (25, 2))
    offsets -= offsets.mean(0)
    sizes = np.concatenate([centre + offsets for centre in centres])
    np.testing.assert_allclose(cluster_anchors(rng.permutation(sizes), 4), centres, atol=1e-9)


def plain_kmeans(points, centres):
    """Lloyd's loop without arrays, until nothing changes."""

    def iou(a, b):
        inter = min(a[0], b[0]) * min(a[1], b[1])
        return inter / (a[0] * a[1] + b[0] * b[1] - inter)

    best, best_centres, assigned = -1, centres, None
    for _ in range(300):
        ious = [[iou(point, centre) for centre in centres] for point in points]
        mean = sum(max(row) for row in ious) / len(points)
        if mean > best:
            best, best_centres = mean, centres
        closest = [row.index(max(row)) for row in ious]
        if closest == assigned:
            break
        assigned = closest
        groups = [[p for p, c in zip(points, closest) if c == k] for k in range(len(centres))]
        centres = [
            tuple(sum(side) / len(group) for side in zip(*group)) if group else centre
            for group, centre in zip(groups, centres)
        ]
    return best, best_centres


@pytest.mark.parametrize('seed', range(4))
def test_equals_a_plain_loop(seed):
    rng = np.random.default_rng(seed)
    points = rng.uniform(1, 100, (60, 2))
    start = points[:4]
    expected_iou, expected = plain_kmeans([tuple(p) for p in points], [tuple(p) for p in start])
    iou, centres = anchor_clusters._kmeans(points, np.ones(60), start)
    np.testing.assert_allclose(centres, expected)
    assert iou == pytest.approx(expected_iou)
    assert iou == pytest.approx(average_iou(points, centres))


@settings(deadline=None, max_examples=30)
@given(SIZES, st.integers(1, 3), st.randoms(use_true_random=False))
def test_properties(sizes, num_anchors, random):
    distinct = len(np.unique(sizes, axis=0))
    if distinct < num_anchors:
        with pytest.raises(ValueError, match=f'got {distinct}'):
            cluster_anchors(sizes, num_anchors)
        return
    anchors = cluster_anchors(sizes, num_anchors, restarts=2)
    assert anchors.shape == (num_anchors, 2)
    assert (np.diff(anchors.prod(1)) >= 0).all()
    assert (anchors >= sizes.min(0) - 1e-9).all() and (anchors <= sizes.max(0) + 1e-9).all()
    iou = average_iou(sizes, anchors)
    assert 0 < iou <= 1 + 1e-12
    # Not of the order of the boxes, nor of the unit, and more restarts are no worse.
    shuffled = sizes[random.sample(range(len(sizes)), len(sizes))]
    np.testing.assert_array_equal(cluster_anchors(shuffled, num_anchors, restarts=2), anchors)
    assert average_iou(sizes * 32, anchors * 32) == pytest.approx(iou)
    assert average_iou(sizes, cluster_anchors(sizes, num_anchors, restarts=4)) >= iou - 1e-12
    if distinct == num_anchors:
        assert iou == pytest.approx(1)


def test_a_frequent_box_weighs_more():
    assert cluster_anchors([[10, 10]] * 9 + [[20, 20]], 1).tolist() == [[10, 10]]
    assert cluster_anchors([[10, 10]] + [[20, 20]] * 9, 1).tolist() == [[20, 20]]


def test_a_sample_of_very_many_boxes(monkeypatch):
    rng = np.random.default_rng(0)
    centres = np.array([[20, 30], [60, 50], [200, 120]])
    sizes = np.concatenate([centre * rng.normal(1, 0.05, (2000, 2)) for centre in centres])
    whole = cluster_anchors(sizes, 3)
    monkeypatch.setattr(anchor_clusters, 'MAX_POINTS', 600)
    some = cluster_anchors(sizes, 3)
    np.testing.assert_array_equal(cluster_anchors(sizes[::-1], 3), some)
    assert not np.array_equal(some, whole)
    np.testing.assert_allclose(some, whole, rtol=0.02)


@pytest.mark.parametrize('bad', [0, -1, np.nan, np.inf])
def test_impossible_sizes(bad):
    with pytest.raises(ValueError, match='positive and finite'):
        cluster_anchors([[1, bad], [2, 2]], 1)


@pytest.mark.parametrize('kwargs', [dict(num_anchors=0), dict(restarts=0)])
def test_impossible_numbers(kwargs):
    with pytest.raises(ValueError, match='1 or more'):
        cluster_anchors([[1, 1], [2, 2]], **kwargs)


def dataset_cfg(coco, pipeline):
    return dict(
        type='CocoDataset',
        ann_file=str(coco),
        data_prefix=dict(img=''),
        metainfo=dict(classes=('cell',)),
        pipeline=pipeline,
    )


RESIZE = [dict(type='LoadImageFromFile'), dict(type='Resize', scale=(64, 32))]


@pytest.fixture(autouse=True)
def scope():
    with DefaultScope.overwrite_default_scope('mmdet'):
        yield


def test_boxes_are_scaled_as_resize_does(tmp_path):
    # On 100x50: 10x20; one that leaves the image by half; a crowd; one of no area.
    coco = write_coco(
        tmp_path, [(10, 10, 10, 20), (90, 0, 20, 50), (0, 0, 30, 30, 1), (5, 5, 0, 9)]
    )
    boxes = load_box_sizes(dataset_cfg(coco, RESIZE))
    np.testing.assert_allclose(boxes.sizes, [[6.4, 12.8], [6.4, 32]])
    # CocoDataset itself drops boxes of no area when it reads them.
    assert (boxes.num_images, boxes.num_ignored, boxes.scales) == (1, 1, [(64, 32)])

    wider = load_box_sizes(dataset_cfg(coco, RESIZE), (640, 32))
    np.testing.assert_allclose(wider.sizes, boxes.sizes * (10, 1))

    # 100x50 within 64x64: 64x32.
    square = [dict(type='mmdet.Resize', scale=(64, 64), keep_ratio=True)]
    np.testing.assert_allclose(load_box_sizes(dataset_cfg(coco, square)).sizes, boxes.sizes)


@pytest.mark.parametrize(
    'step, size',
    [
        (dict(type='DarknetJitter', scale=(608, 608), variant='master'), [32.0, 64.0]),
        (dict(type='DarknetJitter', scale=(608, 608), variant='alexeyab'), [32.0, 128.0]),
        (dict(type='DarknetResize', scale=(320, 320)), [32.0, 64.0]),
        (dict(type='DarknetResize', scale=(320, 320), letterbox=False), [32.0, 128.0]),
    ],
)
def test_boxes_are_scaled_as_darknet_does(tmp_path, step, size):
    """A box of 10x20 in 100x50, for an input of 320x320."""
    cfg = dataset_cfg(write_coco(tmp_path, [(0, 0, 10, 20)]), [step])
    np.testing.assert_allclose(load_box_sizes(cfg, (320, 320)).sizes, [size])
    if step['type'] == 'DarknetJitter':
        # Its scale is the largest of multi-scale training.
        with pytest.raises(ValueError, match='give --input-size'):
            load_box_sizes(cfg)
    test = dict(dataset=dict(cfg, pipeline=[dict(step, scale=(320, 320), type='DarknetResize')]))
    at_test = size_at_test(ConfigDict(test_dataloader=test))
    np.testing.assert_allclose(load_box_sizes(cfg, None, at_test).sizes, [size])


def test_the_size_of_the_test():
    """Where training has several, as Darknet's: `voc0712/yolov2_faithful.py`."""
    config = Config.fromfile(ROOT / 'configs/voc0712/yolov2_faithful.py')
    assert size_at_test(config) == (416, 416)
    assert size_at_test(ConfigDict()) is None
    several = dict(type='RandomChoiceResize', scales=[(320, 320), (416, 416)])
    test = dict(dataset=dict(type='CocoDataset', pipeline=[several]))
    assert size_at_test(ConfigDict(test_dataloader=test)) is None


def test_wrapped_data_sets(tmp_path):
    leaf = dataset_cfg(write_coco(tmp_path, [(0, 0, 10, 20)]), RESIZE)
    bare = dict(leaf, pipeline=[dict(type='LoadImageFromFile')])
    repeated = dict(type='RepeatDataset', times=3, dataset=leaf)
    mixed = dict(type='MultiImageMixDataset', dataset=bare, pipeline=RESIZE[1:])
    boxes = load_box_sizes(dict(type='ConcatDataset', datasets=[leaf, repeated, mixed]))
    assert boxes.num_images == 3
    np.testing.assert_allclose(boxes.sizes, [[6.4, 12.8]] * 3)


def test_unknown_image_sizes_are_read(tmp_path):
    Image.new('RGB', (100, 50)).save(tmp_path / 'image.png')
    info = dict(img_path=str(tmp_path / 'image.png'))
    size = anchor_clusters._scaled_sizes([[0, 0, 10, 20]], info, (64, 32), 'stretch')
    np.testing.assert_allclose(size, [[6.4, 12.8]])


def test_no_resize_step(tmp_path):
    cfg = dataset_cfg(write_coco(tmp_path, [(0, 0, 10, 20)]), [dict(type='LoadImageFromFile')])
    with pytest.raises(ValueError, match='no Resize step.*give --input-size'):
        load_box_sizes(cfg)
    np.testing.assert_allclose(load_box_sizes(cfg, (200, 100)).sizes, [[20, 40]])


def test_no_boxes(tmp_path):
    with pytest.raises(ValueError, match='no boxes to cluster: the 1 images.*1 ignored'):
        load_box_sizes(dataset_cfg(write_coco(tmp_path, [(0, 0, 30, 30, 1)]), RESIZE))
