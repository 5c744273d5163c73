import numpy as np
import pytest
import torch
from mmdet.registry import MODELS

import mmdet_yolo2fl  # noqa: F401
from mmdet_yolo2fl.models.necks.yolov2_neck import REORGS


def darknet_loops(x, stride=2):
    """Darknet's reorg_cpu on one flat image, index by index."""
    c, h, w = x.shape
    flat, out = x.flatten(), np.empty(x.size, x.dtype)
    out_c = c // (stride * stride)
    for k in range(c):
        for j in range(h):
            for i in range(w):
                source = i + w * (j + h * k)
                c2, offset = k % out_c, k // out_c
                w2, h2 = i * stride + offset % stride, j * stride + offset // stride
                target = w2 + w * stride * (h2 + h * stride * c2)
                out[source] = flat[target]
    return out.reshape(c * stride * stride, h // stride, w // stride)


@pytest.mark.parametrize('shape', [(4, 2, 2), (8, 4, 6), (64, 2, 4)])
def test_darknets_rearrangement(shape):
    x = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    got = REORGS['darknet'](torch.from_numpy(x)[None])[0]
    np.testing.assert_array_equal(got.numpy(), darknet_loops(x))


@pytest.mark.parametrize('order', ['offset_major', 'channel_major'])
def test_space_to_depth(order):
    c, h, w = 3, 4, 6
    x = torch.arange(c * h * w).view(1, c, h, w).float()
    got = REORGS[order](x)
    for k in range(c):
        for dy in range(2):
            for dx in range(2):
                channel = (dy * 2 + dx) * c + k if order == 'offset_major' else k * 4 + dy * 2 + dx
                torch.testing.assert_close(got[0, channel], x[0, k, dy::2, dx::2])


@pytest.mark.parametrize('order', REORGS)
def test_fine_channels_come_first(order):
    cfg = dict(type='YOLOV2Neck', in_channels=(8, 6), out_channels=5, passthrough_channels=4)
    neck = MODELS.build(cfg | dict(reorg=order)).eval()
    fine, coarse = torch.randn(2, 8, 6, 10), torch.randn(2, 6, 3, 5)
    (out,) = neck((torch.empty(0), fine, coarse))
    assert neck.num_out_channels == out.shape[1] == 4 * 4 + 5
    torch.testing.assert_close(out[:, 16:], neck.coarse(coarse))
    torch.testing.assert_close(out[:, :16], REORGS[order](neck.fine(fine)))


def test_the_papers_form_without_the_1x1_convolution():
    neck = MODELS.build(
        dict(type='YOLOV2Neck', in_channels=(8, 6), out_channels=5, passthrough_channels=None)
    ).eval()
    fine = torch.randn(1, 8, 4, 4)
    (out,) = neck((fine, torch.randn(1, 6, 2, 2)))
    torch.testing.assert_close(out[:, :32], REORGS['darknet'](fine))


@pytest.mark.parametrize(
    'kwargs, message',
    [
        (dict(in_channels=(1, 2, 3)), r'\(fine, coarse\)'),
        (dict(in_channels=(8, 8), reorg='torch'), "reorg must be one of .* got 'torch'"),
        (dict(in_channels=(8, 8), passthrough_channels=6), 'multiple of 4 channels.* got 6'),
    ],
)
def test_bad_arguments(kwargs, message):
    with pytest.raises(ValueError, match=message):
        MODELS.build(dict(type='YOLOV2Neck', **kwargs))


@pytest.mark.parametrize(
    'sizes, message', [([(5, 6), (2, 3)], 'twice as large'), ([(4, 4)], 'joins two feature maps')]
)
def test_maps_that_do_not_fit(sizes, message):
    neck = MODELS.build(dict(type='YOLOV2Neck', in_channels=(8, 8), passthrough_channels=4))
    with pytest.raises(ValueError, match=message):
        neck([torch.zeros(1, 8, *size) for size in sizes])
