import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mmdet.registry import DATASETS, MODELS
from mmengine.registry import DefaultScope

from mmdet_yolo2fl.imbalance import (
    Objects,
    _map_sizes,
    class_counts,
    class_weights,
    count_priors,
    load_objects,
    mean_positives,
    scaled_boxes,
    suggested_alpha,
)
from tests.tools.coco_file import write_coco


@pytest.fixture(autouse=True)
def _scope():
    with DefaultScope.overwrite_default_scope('mmdet'):
        yield


def test_effective_number_by_hand():
    # (1 - 0.9) / (1 - 0.9^n): n = 1: 1; n = 2: 0.1 / 0.19; scaled to a mean of 1
    raw = np.array([1.0, 0.1 / 0.19])
    np.testing.assert_allclose(class_weights([1, 2], beta=0.9), raw * 2 / raw.sum())
    np.testing.assert_allclose(class_weights([10, 30], 'inverse_frequency'), [1.5, 0.5])


@settings(max_examples=100, deadline=None)
@given(
    counts=st.lists(st.integers(0, 10**6), min_size=1, max_size=20),
    method=st.sampled_from(['inverse_frequency', 'effective_number']),
    beta=st.floats(0, 0.99999),
)
def test_weights_have_mean_one_and_fall_with_the_count(counts, method, beta):
    weights = class_weights(counts, method, beta)
    assert np.isfinite(weights).all() and (weights > 0).all()
    present = np.array(counts) > 0
    assert weights[present if present.any() else ...].mean() == pytest.approx(1)
    assert (weights[~present] == weights.max()).all()
    order = np.argsort(np.maximum(counts, 1), kind='stable')
    assert (np.diff(weights[order]) <= 1e-9).all()
    inverse = class_weights(counts, 'inverse_frequency')
    assert weights.max() <= inverse.max() + 1e-9  # never more unequal than the inverse frequency


def test_a_class_without_boxes_leaves_the_others_their_weights():
    expected = class_weights([3000, 270, 260])
    found = class_weights([3000, 0, 270, 260])
    np.testing.assert_allclose(found, [expected[0], expected[2], *expected[1:]])
    np.testing.assert_allclose(class_weights([0, 0]), [1, 1])


def test_limits_of_beta():
    counts = [5, 50, 500]
    np.testing.assert_allclose(class_weights(counts, beta=0), np.ones(3))
    inverse = class_weights(counts, 'inverse_frequency')
    np.testing.assert_allclose(class_weights(counts, beta=1 - 1e-9), inverse, rtol=1e-5)


def test_alpha_multiplies_the_odds():
    alpha = suggested_alpha([0.5, 1.0, 4.0], 0.25)
    np.testing.assert_allclose(alpha / (1 - alpha), [0.5 / 3, 1 / 3, 4 / 3])


@pytest.mark.parametrize(
    'arguments, message',
    [
        (([-1, 2],), 'counts'),
        (([],), 'counts'),
        (([1], 'frequency'), 'method'),
        (([1], 'effective_number', 1.0), 'beta'),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        class_weights(*arguments)


def objects(boxes, labels, images, image_sizes):
    return Objects(
        np.array(labels), np.array(boxes, float), np.array(images), np.array(image_sizes, float)
    )


def test_boxes_at_the_input_size():
    found = objects([(0, 0, 100, 50), (10, 20, 30, 40)], [0, 1], [0, 1], [(200, 100), (100, 400)])
    np.testing.assert_allclose(
        scaled_boxes(found, (100, 100), 'stretch'), [(0, 0, 50, 50), (10, 5, 30, 10)]
    )
    # 200x100 into 100x50: a half; 100x400 into 50x100 (the longer side to the longer): a quarter
    np.testing.assert_allclose(
        scaled_boxes(found, (100, 50), 'keep_ratio'), [(0, 0, 50, 25), (2.5, 5, 7.5, 10)]
    )
    # Darknet fits 100x400 into the other way: 12.5x50, an eighth.
    np.testing.assert_allclose(
        scaled_boxes(found, (100, 50), 'letterbox'), [(0, 0, 50, 25), (1.25, 2.5, 3.75, 5)]
    )
    unknown = objects([(0, 0, 9, 9)], [0], [0], [(np.nan, np.nan)])
    np.testing.assert_allclose(scaled_boxes(unknown, (100, 50), 'stretch'), [(0, 0, 9, 9)])


def test_priors_and_positives_of_retinanet():
    head = dict(
        type='RetinaHead',
        num_classes=2,
        in_channels=8,
        stacked_convs=0,
        anchor_generator=dict(type='AnchorGenerator', ratios=[1.0], scales=[2.0], strides=[16, 32]),
        train_cfg=dict(
            assigner=dict(type='MaxIoUAssigner', pos_iou_thr=0.5, neg_iou_thr=0.4, min_pos_iou=0)
        ),
    )
    detector = torch.nn.Module()
    detector.bbox_head = MODELS.build(head)
    # 100 x 64 pixels: 7 x 4 and 4 x 2 cells
    assert count_priors(detector, (100, 64)) == 28 + 8
    assert _map_sizes(detector.bbox_head.prior_generator, (100, 64)) == [(4, 7), (2, 4)]
    # Anchors of 32 pixels around the corners of the 16-pixel cells: the one here fits exactly.
    found = objects([(0, 0, 32, 32)], [0], [0], [(100, 64)])
    boxes = [np.array([(0.0, 0.0, 32.0, 32.0)])]
    corners = detector.bbox_head.prior_generator.grid_priors([(4, 7), (2, 4)], device='cpu')
    corners = torch.cat(corners).numpy()
    low, high = np.maximum(corners[:, :2], 0), np.minimum(corners[:, 2:], 32)
    inside = (high - low).clip(0).prod(1)
    union = (corners[:, 2:] - corners[:, :2]).prod(1) + 32**2 - inside
    expected = ((inside / union >= 0.5) | (inside / union == (inside / union).max())).sum()
    assert mean_positives(detector, found, boxes, (100, 64)) == expected
    with_an_empty_one = [*boxes, np.zeros((0, 4))]
    assert mean_positives(detector, found, with_an_empty_one, (100, 64)) == expected / 2
    detector.bbox_head.assigner = None
    assert mean_positives(detector, found, boxes, (100, 64)) is None


class ListDataset:
    """Annotations as MMDetection's data sets tell them."""

    metainfo = dict(classes=('a', 'b', 'c'))

    def __init__(self, *images):
        self.images = images

    def __len__(self):
        return len(self.images)

    def get_data_info(self, index):
        instances = [
            dict(bbox=(0, 0, 4, 2), bbox_label=x, ignore_flag=0) for x in self.images[index]
        ]
        crowd = dict(bbox=(0, 0, 9, 9), bbox_label=2, ignore_flag=1)
        return dict(width=20, height=10, instances=[*instances, crowd])


def test_objects_without_crowds():
    found = load_objects(ListDataset([0, 1, 1], [], [0]))
    assert found.labels.tolist() == [0, 1, 1, 0] and found.images.tolist() == [0, 0, 0, 2]
    assert found.image_sizes.tolist() == [[20, 10]] * 3
    assert class_counts(ListDataset([0, 1, 1], [0]), 3).tolist() == [2, 2, 0]


@pytest.mark.parametrize(
    'box, is_learned',
    [
        ((0, 0, 4, 2), True),
        ((-5, -5, 1, 1), True),
        ((19, 9, 30, 30), True),
        ((5, 5, 5, 8), False),
        ((20, 0, 25, 5), False),
        ((0, -4, 5, 0), False),
    ],
)
@pytest.mark.parametrize('known', [True, False])
def test_boxes_without_an_area_in_their_image_are_not_counted(box, is_learned, known):
    data = ListDataset([0, 1])
    info = data.get_data_info(0)
    info['instances'][0]['bbox'] = box
    if not known:
        del info['width'], info['height']
        is_learned = is_learned or box[0] == 20  # who knows
    data.get_data_info = lambda index: info
    assert load_objects(data).labels.tolist() == [0, 1][not is_learned :]


def test_repetitions_and_wrappers_count(tmp_path):
    coco = dict(
        type='CocoDataset',
        ann_file=str(write_coco(tmp_path, [(0, 0, 10, 10), (20, 5, 30, 20), (1, 1, 5, 5, 1)])),
        data_prefix=dict(img=str(tmp_path)),
        metainfo=dict(classes=('cell',)),
        pipeline=[],
    )
    assert class_counts(DATASETS.build(coco), 1).tolist() == [2]
    repeated = dict(type='RepeatDataset', dataset=coco, times=3)
    assert class_counts(DATASETS.build(repeated), 1).tolist() == [6]
    both = dict(type='ConcatDataset', datasets=[coco, repeated])
    assert class_counts(DATASETS.build(both), 1).tolist() == [8]
    mosaic = dict(type='MultiImageMixDataset', dataset=coco, pipeline=[])
    assert class_counts(DATASETS.build(mosaic), 1).tolist() == [2]


def test_unfit_data_sets():
    with pytest.raises(ValueError, match='has no boxes'):
        load_objects(ListDataset([], []))
    with pytest.raises(ValueError, match='label 1, but the model 1 classes'):
        class_counts(ListDataset([0, 1]), 1)
    with pytest.raises(ValueError, match='list has no get_data_info'):
        load_objects([1, 2])


def test_positives_of_yolov2():
    detector = torch.nn.Module()
    detector.bbox_head = MODELS.build(
        dict(
            type='YOLOV2Head',
            num_classes=2,
            in_channels=4,
            feat_channels=4,
            anchor_generator=dict(type='YOLOV2AnchorGenerator', anchors=[(1, 1)]),
        )
    )
    three = objects([(0, 0, 9, 9)] * 3, [0, 0, 1], [0, 0, 0], [(64, 64)] * 2)
    assert mean_positives(detector, three, [], (64, 64)) == 1.5
    detector.bbox_head.assigner.anchors_per_truth = 2
    assert mean_positives(detector, three, [], (64, 64)) is None
