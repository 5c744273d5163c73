"""Darknet's resizing, jitter and colours, against loops written from its equations."""

import colorsys

import cv2
import numpy as np
import pytest
import torch
from mmcv.transforms.utils import cache_random_params
from mmdet.registry import TRANSFORMS
from mmdet.structures.bbox import HorizontalBoxes

from mmdet_yolo2fl.datasets.transforms.darknet_resize import letterbox_size, resize_corner_aligned


def build(name, **kwargs):
    return TRANSFORMS.build(dict(type=name, **kwargs))


def noise(height, width, channels=3, seed=0):
    shape = (height, width, channels) if channels else (height, width)
    return np.random.default_rng(seed).integers(0, 256, shape).astype(np.uint8)


def sample(img, boxes=(), flags=None):
    boxes = np.array(boxes, dtype=np.float32).reshape(-1, 4)
    return dict(
        img=img,
        img_shape=img.shape[:2],
        ori_shape=img.shape[:2],
        gt_bboxes=HorizontalBoxes(boxes),
        gt_bboxes_labels=np.arange(len(boxes)),
        gt_ignore_flags=np.zeros(len(boxes), bool) if flags is None else np.array(flags),
    )


def interpolate(img, row, col):
    """Bilinear interpolation at one point; black outside of the image."""
    total = 0.0
    for r in (int(row), int(row) + 1):
        for c in (int(col), int(col) + 1):
            weight = (1 - abs(row - r)) * (1 - abs(col - c))
            if weight > 0 and r < img.shape[0] and c < img.shape[1]:
                total = total + weight * img[r, c].astype(float)
    return total


@pytest.mark.parametrize(
    'shape, scale', [((9, 7), (20, 5)), ((4, 6), (6, 4)), ((1, 5), (8, 3)), ((5, 1), (2, 9))]
)
def test_corner_aligned_resize_is_the_plain_loop(shape, scale):
    img = noise(*shape)
    width, height = scale
    expected = np.zeros((height, width, 3))
    for row in range(height):
        for col in range(width):
            step = [(n - 1) / (m - 1) for n, m in zip(shape, (height, width))]
            expected[row, col] = interpolate(img, row * step[0], col * step[1])
    resized = resize_corner_aligned(img, scale)
    assert resized.dtype == np.float32
    np.testing.assert_allclose(resized, expected, atol=2e-3)


@pytest.mark.parametrize(
    'image, network, expected',
    [  # all as (width, height)
        ((500, 375), (416, 416), (416, 312)),
        ((375, 500), (416, 416), (312, 416)),
        ((333, 500), (416, 416), (277, 416)),  # 277.06
        ((500, 334), (416, 416), (416, 277)),  # 277.9
        ((300, 300), (416, 288), (288, 288)),
        ((200, 100), (400, 200), (400, 200)),
        ((5000, 2), (416, 416), (416, 1)),  # Darknet would come to 0 rows
    ],
)
def test_letterbox_sizes(image, network, expected):
    assert letterbox_size(*image, network) == expected


@pytest.mark.parametrize('interpolation', ['darknet', 'opencv'])
def test_letterbox_lies_at_the_integer_half_and_reports_the_float_half(interpolation):
    img = noise(33, 100)
    results = build('DarknetResize', scale=(64, 64), interpolation=interpolation)(sample(img))
    out = results['img']
    assert out.dtype == np.float32 and out.shape == (64, 64, 3)
    assert (out[:21] == 127.5).all() and (out[42:] == 127.5).all()  # 33 * 64 // 100 = 21 rows
    if interpolation == 'darknet':
        expected = resize_corner_aligned(img, (64, 21))
    else:
        expected = cv2.resize(img, (64, 21), interpolation=cv2.INTER_LINEAR)
    np.testing.assert_array_equal(out[21:42], expected)
    assert results['img_shape'] == (64, 64)
    assert results['scale_factor'] == (0.64, 21 / 33)
    assert results['pad_offset'] == (0.0, 21.5)
    assert results['keep_ratio'] is True


def test_plain_resize_by_opencv_is_opencvs():
    img = noise(33, 100)
    resize = build('DarknetResize', scale=(64, 32), letterbox=False, interpolation='opencv')
    results = resize(sample(img))
    np.testing.assert_array_equal(results['img'], cv2.resize(img, (64, 32)))
    assert results['img'].dtype == np.uint8
    assert results['scale_factor'] == (0.64, 32 / 33)
    assert results['pad_offset'] == (0.0, 0.0)
    assert results['keep_ratio'] is False


def test_plain_resize_by_darknet_is_not_rounded():
    img = noise(33, 100)
    results = build('DarknetResize', scale=(64, 32), letterbox=False)(sample(img))
    np.testing.assert_array_equal(results['img'], resize_corner_aligned(img, (64, 32)))
    assert (results['img'] % 1 != 0).any()


@pytest.mark.parametrize('letterbox', [True, False])
@pytest.mark.parametrize('interpolation', ['darknet', 'opencv'])
@pytest.mark.parametrize('channels', [0, 1])
def test_grey_images_keep_their_dimensions(letterbox, interpolation, channels):
    img = noise(30, 50, channels)
    resize = build(
        'DarknetResize', scale=(64, 64), letterbox=letterbox, interpolation=interpolation
    )
    out = resize(sample(img))['img']
    assert out.shape == (64, 64, 1)[: img.ndim]
    colour = resize(sample(np.dstack([img] * 3)))['img']
    np.testing.assert_allclose(out.reshape(64, 64), colour[..., 0], atol=1e-4)


def test_boxes_go_into_the_network_input():
    # 100 x 50 in 64 x 64: scale .64, 32 rows, 16 above
    results = build('DarknetResize', scale=(64, 64))(sample(noise(50, 100), [[0, 0, 100, 50]]))
    torch.testing.assert_close(results['gt_bboxes'].tensor, torch.tensor([[0.0, 16.0, 64.0, 48.0]]))
    results = build('DarknetResize', scale=(64, 64))(sample(noise(33, 100), [[10, 11, 20, 22]]))
    expected = [6.4, 21.5 + 11 * 21 / 33, 12.8, 21.5 + 22 * 21 / 33]
    torch.testing.assert_close(results['gt_bboxes'].tensor, torch.tensor([expected]))


def test_an_image_without_boxes_in_its_results_is_resized():
    results = build('DarknetResize', scale=(64, 64))(dict(img=noise(9, 9)))
    assert 'gt_bboxes' not in results and results['img'].shape == (64, 64, 3)


def placed_by_loop(img, canvas_size, width, height, left, top):
    """``place_image`` of image.c: whole numbers all, and pixels off the canvas forgotten."""
    canvas = np.full((canvas_size[1], canvas_size[0], 3), 127.5)
    for row in range(int(height)):
        for col in range(int(width)):
            y, x = row + int(top), col + int(left)
            if 0 <= y < canvas_size[1] and 0 <= x < canvas_size[0]:
                source = (row / int(height) * img.shape[0], col / int(width) * img.shape[1])
                canvas[y, x] = interpolate(img, *source)
    return canvas


@pytest.mark.parametrize(
    'scale, placement',
    [
        ((32, 32), (32, 20.7, 0.0, 6.9)),
        ((32, 32), (21.3, 32, 9.99, 0.0)),
        ((40, 24), (55.5, 24, -7.7, 0.0)),  # wider than the canvas
        ((24, 40), (24, 61.0, 0.0, -20.2)),
    ],
)
def test_master_places_the_image_as_the_plain_loop(scale, placement):
    img = noise(15, 22)
    jitter = build('DarknetJitter', scale=scale)
    jitter._random_placement = lambda width, height: placement
    out = jitter(sample(img))['img']
    assert out.dtype == np.float32
    np.testing.assert_allclose(out, placed_by_loop(img, scale, *placement), atol=2e-3)


def test_master_corrects_clips_and_drops_boxes():
    # 100 x 50 becomes 64 x 40 at (0, 12.5)
    jitter = build('DarknetJitter', scale=(64, 64))
    jitter._random_placement = lambda width, height: (64, 40, 0.0, 12.5)
    boxes = [[10, 10, 30, 20], [50, 20, 50.05, 40], [90, 40, 120, 70], [-9, 0, 0, 5]]
    results = jitter(sample(noise(50, 100), boxes, [False, False, True, False]))
    expected = [[6.4, 20.5, 19.2, 28.5], [57.6, 44.5, 64.0, 64.0]]
    torch.testing.assert_close(results['gt_bboxes'].tensor, torch.tensor(expected))
    # .05 * .64 is less than .001 * 64; the last is outside altogether
    assert results['gt_bboxes_labels'].tolist() == [0, 2]
    assert results['gt_ignore_flags'].tolist() == [False, True]
    assert results['scale_factor'] == (0.64, 0.8)
    assert results['img_shape'] == (64, 64)


@pytest.mark.parametrize('scale', [(64, 64), (96, 32), (32, 96)])
def test_masters_draws(scale):
    np.random.seed(0)
    width, height = 120, 90
    jitter = build('DarknetJitter', scale=scale, jitter=0.3)
    drawn = np.array([jitter._random_placement(width, height) for _ in range(4000)])
    new_width, new_height, left, top = drawn.T
    aspect = new_width / new_height
    # (w +- .3 w) / (h +- .3 h)
    assert aspect.min() >= width * 0.7 / (height * 1.3) - 1e-9 and aspect.min() < 0.8
    assert aspect.max() <= width * 1.3 / (height * 0.7) + 1e-9 and aspect.max() > 2.2
    tall = aspect < 1
    np.testing.assert_allclose(new_height[tall], scale[1])
    np.testing.assert_allclose(new_width[~tall], scale[0])
    # within what is left over, be it negative, and uniformly so
    for offset, rest in ((left, scale[0] - new_width), (top, scale[1] - new_height)):
        share = offset[np.abs(rest) > 1] / rest[np.abs(rest) > 1]
        assert share.min() >= 0 and share.max() <= 1
        assert abs(share.mean() - 0.5) < 0.02


def test_without_jitter_only_the_place_is_random():
    jitter = build('DarknetJitter', scale=(64, 64), jitter=0.0)
    for _ in range(5):
        width, height, left, top = jitter._random_placement(100, 50)
        assert (width, height, left) == (64, 32, 0)
        assert 0 <= top <= 32


@pytest.mark.parametrize('margins', [(4, 3, 2, 5), (-4, -3, -2, -5), (6, -6, -1, 1), (0, 0, 0, 0)])
def test_fork_crops_or_extends_with_the_mean_and_stretches(margins):
    img = noise(20, 30)
    left, right, top, bottom = margins
    jitter = build('DarknetJitter', scale=(64, 32), variant='alexeyab')
    jitter._random_margins = lambda width, height: margins
    results = jitter(sample(img, [[10, 5, 20, 10]]))

    mean = img.reshape(-1, 3).mean(0).round().tolist()
    wide = cv2.copyMakeBorder(img, 9, 9, 9, 9, cv2.BORDER_CONSTANT, value=mean)
    crop = wide[9 + top : 29 - bottom, 9 + left : 39 - right]
    np.testing.assert_array_equal(results['img'], cv2.resize(crop, (64, 32)))
    assert results['img'].dtype == np.uint8

    x, y = 64 / (30 - left - right), 32 / (20 - top - bottom)
    expected = [[(10 - left) * x, (5 - top) * y, (20 - left) * x, (10 - top) * y]]
    torch.testing.assert_close(results['gt_bboxes'].tensor, torch.tensor(expected))
    assert results['scale_factor'] == (x, y)


def test_fork_drops_boxes_below_a_pixel():
    jitter = build('DarknetJitter', scale=(32, 32), variant='alexeyab')
    jitter._random_margins = lambda width, height: (0, 0, 0, 0)
    results = jitter(sample(noise(64, 64), [[4, 4, 7, 7], [4, 4, 5.9, 40], [60, 60, 90, 90]]))
    assert results['gt_bboxes_labels'].tolist() == [0, 2]  # 1.5, 0.95 and (clipped) 2 pixels


def test_forks_draws():
    np.random.seed(0)
    jitter = build('DarknetJitter', scale=(64, 64), jitter=0.3, variant='alexeyab')
    drawn = np.array([jitter._random_margins(100, 50) for _ in range(4000)])
    assert np.abs(drawn).max(0).tolist() == [29, 29, 14, 14]  # below 30 and 15, cut to whole ones
    assert (np.abs(drawn.mean(0)) < 1).all()
    assert np.abs(np.corrcoef(drawn.T) - np.eye(4)).max() < 0.1


@pytest.mark.parametrize('variant', ['master', 'alexeyab'])
@pytest.mark.parametrize('scale', [(128, 128), (160, 96)])
def test_boxes_follow_their_objects(variant, scale):
    np.random.seed(1)
    img = np.zeros((90, 120, 3), np.uint8)
    img[30:60, 40:90] = 255
    jitter = build('DarknetJitter', scale=scale, variant=variant)
    for _ in range(20):
        results = jitter(sample(img, [[40, 30, 90, 60]]))
        rows, cols = np.nonzero(results['img'][..., 0] > 160)
        found = [cols.min(), rows.min(), cols.max() + 1, rows.max() + 1]
        np.testing.assert_allclose(results['gt_bboxes'].tensor[0], found, atol=2.1)


@pytest.mark.parametrize('variant', ['master', 'alexeyab'])
@pytest.mark.parametrize('channels', [0, 1])
def test_jitter_of_grey_images(variant, channels):
    jitter = build('DarknetJitter', scale=(64, 64), variant=variant)
    img = noise(30, 50, channels)
    assert jitter(sample(img))['img'].shape == (64, 64, 1)[: img.ndim]


@pytest.mark.parametrize(
    'cfg',
    [
        dict(type='DarknetJitter', scale=(64, 64)),
        dict(type='DarknetJitter', scale=(64, 64), variant='alexeyab'),
        dict(type='DarknetHSV'),
    ],
    ids=['master', 'alexeyab', 'hsv'],
)
def test_seeds_and_cached_draws_repeat(cfg):
    transform = TRANSFORMS.build(cfg)
    img = noise(40, 30)

    def run():
        return transform(sample(img.copy()))['img']

    np.random.seed(5)
    first, second = run(), run()
    np.random.seed(5)
    np.testing.assert_array_equal(run(), first)
    assert not np.array_equal(first, second)
    with cache_random_params(transform):
        np.testing.assert_array_equal(run(), run())


@pytest.mark.parametrize(
    'changes', [(0.0, 1.0, 1.0), (0.07, 1.5, 1.5), (-0.1, 0.7, 1.2), (0.5, 3.0, 0.5)]
)
def test_hsv_is_colorsys(changes):
    shift, saturation, exposure = changes
    img = noise(12, 12)
    img[0, 0] = 0  # black and grey have no hue
    img[0, 1] = 200
    hsv = build('DarknetHSV')
    hsv._random_changes = lambda: changes
    out = hsv(dict(img=img.astype(np.float32)))['img']
    assert out.dtype == np.float32
    for row in range(12):
        for col in range(12):
            h, s, v = colorsys.rgb_to_hsv(*(img[row, col, ::-1] / 255))
            rgb = colorsys.hsv_to_rgb((h + shift) % 1, s * saturation, v * exposure)
            expected = np.clip(rgb, 0, 1)[::-1] * 255
            np.testing.assert_allclose(out[row, col], expected, atol=0.02)
    rounded = hsv(dict(img=img))['img']
    assert rounded.dtype == np.uint8
    np.testing.assert_allclose(rounded, out, atol=0.51)


def test_hsv_of_grey_images_is_exposure():
    hsv = build('DarknetHSV')
    hsv._random_changes = lambda: (0.1, 1.5, 1.5)
    for channels in (0, 1):
        img = noise(8, 8, channels)
        expected = np.minimum(img * 1.5, 255)
        np.testing.assert_allclose(hsv(dict(img=img))['img'], expected, atol=0.51)


def test_hsv_draws():
    np.random.seed(0)
    hsv = build('DarknetHSV', hue=0.1, saturation=1.5, exposure=2.0)
    shift, saturation, exposure = np.array([hsv._random_changes() for _ in range(4000)]).T
    assert shift.min() >= -0.1 and shift.max() <= 0.1 and shift.std() > 0.055
    for factor, limit in ((saturation, 1.5), (exposure, 2.0)):
        assert factor.min() >= 1 / limit and factor.max() <= limit
        assert abs((factor > 1).mean() - 0.5) < 0.03
        # uniform above 1, the inverse of that below
        assert abs(factor[factor > 1].mean() - (1 + limit) / 2) < 0.02
        assert abs((1 / factor[factor < 1]).mean() - (1 + limit) / 2) < 0.02
    assert abs(np.corrcoef(saturation, exposure)[0, 1]) < 0.05


def pipeline(results, *cfgs):
    for cfg in cfgs:
        results = TRANSFORMS.build(cfg)(results)
    return results


def test_training_and_test_pipelines_end_in_samples():
    results = sample(noise(60, 80), [[10, 10, 50, 40]]) | dict(img_id=3, img_path='a.png')
    packed = pipeline(
        results,
        dict(type='DarknetJitter', scale=(96, 96)),
        dict(type='DarknetHSV'),
        dict(type='RandomFlip', prob=1.0),
        dict(type='PackDetInputs'),
    )
    assert packed['inputs'].shape == (3, 96, 96) and packed['inputs'].dtype == torch.float32
    assert packed['inputs'].min() >= 0 and packed['inputs'].max() <= 255
    assert packed['data_samples'].gt_instances.bboxes.tensor.shape == (1, 4)
    assert packed['data_samples'].flip
    packed = pipeline(
        sample(noise(60, 80)),
        dict(type='DarknetResize', scale=(96, 96)),
        dict(type='PackDetInputs', meta_keys=('scale_factor', 'pad_offset', 'img_shape')),
    )
    meta = packed['data_samples'].metainfo
    assert meta['pad_offset'] == (0.0, 12.0) and meta['img_shape'] == (96, 96)


@pytest.mark.parametrize(
    'cfg, message',
    [
        (dict(type='DarknetResize', scale=416), r'DarknetResize: scale must be \(width, height\)'),
        (dict(type='DarknetResize', scale=(416, 0)), 'two positive integers'),
        (dict(type='DarknetResize', scale=(416, 416), interpolation='area'), "got 'area'"),
        (dict(type='DarknetJitter', scale=(1.5, 2)), 'DarknetJitter: scale'),
        (dict(type='DarknetJitter', scale=(64, 64), variant='fork'), "got 'fork'"),
        (dict(type='DarknetJitter', scale=(64, 64), jitter=1.0), r'\[0, 1.0\) for master'),
        (
            dict(type='DarknetJitter', scale=(64, 64), jitter=0.5, variant='alexeyab'),
            r'\[0, 0.5\) for alexeyab',
        ),
        (dict(type='DarknetHSV', hue=18), 'hue must lie in 0..1, got 18'),
        (dict(type='DarknetHSV', exposure=0.5), 'exposure must be at least 1, got 0.5'),
    ],
)
def test_bad_arguments_are_refused(cfg, message):
    with pytest.raises(ValueError, match=message):
        TRANSFORMS.build(cfg)
