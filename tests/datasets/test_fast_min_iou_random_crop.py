"""The same crops as MMDetection's, draw for draw."""

import copy

import numpy as np
import pytest
from mmdet.datasets.transforms import MinIoURandomCrop
from mmdet.structures.bbox import HorizontalBoxes
from mmdet.structures.mask import BitmapMasks

from mmdet_yolo2fl.datasets import FastMinIoURandomCrop


def sample(rng, number):
    """An image with boxes of all sizes, some beyond its borders, and everything that is cropped."""
    height, width = rng.integers(20, 200, 2)
    corners = rng.uniform(-10, 0.8 * np.array([width, height]), (number, 2))
    boxes = np.hstack([corners, corners + rng.uniform(1, 150, (number, 2))]).astype(np.float32)
    return dict(
        img=rng.integers(0, 256, (height, width, 3), dtype=np.uint8),
        img_shape=(height, width),
        gt_bboxes=HorizontalBoxes(boxes),
        gt_bboxes_labels=np.arange(number),
        gt_ignore_flags=rng.random(number) < 0.5,
        gt_masks=BitmapMasks(
            rng.integers(0, 2, (number, height, width), dtype=np.uint8), height, width
        ),
        gt_seg_map=rng.integers(0, 9, (height, width), dtype=np.uint8),
    )


def crop_both(results, seed, **options):
    """The results, and the random state after it, of ours and of MMDetection's."""
    found = []
    for crop in (FastMinIoURandomCrop(**options), MinIoURandomCrop(**options)):
        np.random.seed(seed)
        found.append((crop(copy.deepcopy(results)), np.random.random()))
    return found


@pytest.mark.parametrize(
    'options',
    [
        dict(),
        dict(min_ious=(0.3, 0.5, 0.7, 0.9), min_crop_size=0.5),
        dict(min_ious=(0.01,), min_crop_size=0.1, bbox_clip_border=False),
        dict(min_crop_size=0.01),  # crops without an area
    ],
)
@pytest.mark.parametrize('number', [0, 1, 3, 15])
def test_equal_to_mmdetection(options, number):
    cropped = 0
    for seed in range(25):
        results = sample(np.random.default_rng(seed), number)
        (ours, after), (theirs, after_theirs) = crop_both(results, seed, **options)
        assert after == after_theirs
        assert ours.keys() == theirs.keys() and ours['img_shape'] == theirs['img_shape']
        for key in ('img', 'gt_bboxes_labels', 'gt_ignore_flags', 'gt_seg_map'):
            assert np.array_equal(ours[key], theirs[key]), key
        assert np.array_equal(ours['gt_bboxes'].numpy(), theirs['gt_bboxes'].numpy())
        assert np.array_equal(ours['gt_masks'].masks, theirs['gt_masks'].masks)
        cropped += ours['img_shape'] != results['img_shape']
    assert cropped > 5


def test_arrays_in_place_of_boxes():
    """As a pipeline with `box_type=None` has them: MMDetection's way."""
    results = sample(np.random.default_rng(0), 3)
    results['gt_bboxes'] = results['gt_bboxes'].numpy()
    for seed in range(20):
        (ours, after), (theirs, after_theirs) = crop_both(results, seed)
        assert after == after_theirs and np.array_equal(ours['gt_bboxes'], theirs['gt_bboxes'])
