"""The transform that MMDetection's test_robustness puts into a pipeline."""

import numpy as np
import pytest
from mmdet.registry import TRANSFORMS

from mmdet_yolo2fl.datasets import Corrupt

imagecorruptions = pytest.importorskip(
    'imagecorruptions', reason="needs it: pip install 'imagecorruptions'"
)


def build(**options):
    assert 'Corrupt' in TRANSFORMS
    return Corrupt(**options)


def test_brightness_is_that_of_the_package():
    image = np.full((40, 50, 3), (200, 100, 10), np.uint8)  # BGR
    results = build(corruption='brightness', severity=3)(dict(img=image.copy()))
    expected = imagecorruptions.corrupt(image[..., ::-1], 3, 'brightness')[..., ::-1]
    assert results['img'].dtype == np.uint8 and (results['img'] == expected).all()
    assert (results['img'] >= image).all() and (results['img'] > image).any()
    assert 'brightness' in repr(build(corruption='brightness'))


def test_severity_grows():
    image = np.random.default_rng(0).integers(0, 255, (64, 64, 3)).astype(np.uint8)
    off = [
        np.abs(
            build(corruption='pixelate', severity=s)(dict(img=image))['img'].astype(int) - image
        ).mean()
        for s in (1, 3, 5)
    ]
    assert 0 < off[0] < off[1] < off[2]


@pytest.mark.parametrize(
    'options, message',
    [
        (dict(corruption='rust'), "there is no 'rust'; there are gaussian_noise"),
        (dict(corruption='fog', severity=6), r'severity must lie in 1\.\.5, got 6'),
    ],
)
def test_refuses(options, message):
    with pytest.raises(ValueError, match=message):
        build(**options)
