"""The same outputs as OpenCV's Darknet reader, an implementation that is not ours."""

import cv2
import pytest
import torch
from mmengine.config import Config

from mmdet_yolo2fl.darknet import darknet_to_mmdet, mmdet_to_darknet
from mmdet_yolo2fl.darknet.opencv import OpenCVNetwork, largest_differences, use_opencv
from mmdet_yolo2fl.detector import load_detector

from . import networks

pytestmark = pytest.mark.skipif(
    not hasattr(cv2.dnn, 'readNetFromDarknet'), reason='OpenCV 5 cannot read Darknet files'
)
THRESH = 0.001


def compare(folder, min_variance=0.5, **options):
    """Largest differences between PyTorch and OpenCV for a cfg with random weights."""
    cfg, weights = networks.write(folder, thresh=0.6, **options)
    weights.write_bytes(networks.random_weights(cfg.read_text(), min_variance=min_variance))
    config, checkpoint = darknet_to_mmdet(cfg, weights, folder / 'mmdet')
    paths = mmdet_to_darknet(config, checkpoint, folder / 'opencv', opencv_thresh=THRESH)
    model, _ = load_detector(Config.fromfile(config), checkpoint)
    width, height = options.get('size', (416, 416))
    inputs = torch.rand(
        1, options.get('channels', 3), height, width, generator=torch.Generator().manual_seed(0)
    )
    return largest_differences(model, OpenCVNetwork(*paths[:2]), inputs, THRESH)


def check(differences):
    assert differences['kept'] > 10  # scores were compared at all
    assert differences['lost'] == 0
    for key in ('map', 'boxes', 'objectness', 'scores'):
        assert differences[key] < 1e-4, (key, differences)


@pytest.mark.parametrize('name', networks.NETWORKS)
def test_public_networks_give_opencvs_outputs(tmp_path, name):
    # A smaller input, and not a square one; their own widths, but for one of the two large ones.
    width = 0.5 if name == 'yolov2' else 1.0
    check(compare(tmp_path, **networks.NETWORKS[name] | dict(size=(160, 96), width=width)))


@pytest.mark.parametrize('name', ['yolov2-voc', 'yolov2-tiny-voc'])
def test_epsilon_is_right_where_variances_are_small(tmp_path, name):
    options = networks.NETWORKS[name] | dict(size=(96, 96), width=0.25, fine=32)
    check(compare(tmp_path, min_variance=1e-6, **options))


def test_the_wrong_epsilon_would_be_seen(tmp_path):
    options = networks.NETWORKS['yolov2-tiny-voc'] | dict(size=(96, 96), width=0.25)
    cfg, weights = networks.write(tmp_path, **options)
    weights.write_bytes(networks.random_weights(cfg.read_text(), min_variance=1e-6))
    config, checkpoint = darknet_to_mmdet(cfg, weights, tmp_path)
    model, _ = load_detector(Config.fromfile(config), checkpoint)
    inputs = torch.rand(1, 3, 96, 96)
    # The file as it was: OpenCV adds 1e-6 where Darknet adds 1e-5.
    assert largest_differences(model, OpenCVNetwork(cfg, weights), inputs, 0.6)['map'] > 1e-2


@pytest.mark.parametrize(
    'options',
    [
        dict(fine=None),
        dict(channels=1),
        dict(activation='relu'),
        dict(batch_normalize=0),
        dict(anchors='1,1, 2,3', classes=3),
        dict(classes=1),
        dict(size=(64, 192)),
        # Cells of 16 pixels
        dict(layers=[*networks.DARKNET19[:-6], 512, 512, 'pass', 512], size=(80, 48)),
    ],
    ids=str,
)
def test_variations_give_opencvs_outputs(tmp_path, options):
    base = dict(networks.NETWORKS['yolov2-voc'], size=(96, 64), width=0.25, fine=32)
    check(compare(tmp_path, **base | options))


def test_opencv_gets_the_number_of_anchors(tmp_path):
    """One is Darknet's default for `num`; OpenCV has none."""
    options = dict(networks.NETWORKS['yolov2-tiny-voc'], anchors='1,1', size=(64, 64), width=0.125)
    cfg, weights = networks.write(tmp_path, **options)
    cfg.write_text(cfg.read_text().replace('num=1\n', ''))
    config, checkpoint = darknet_to_mmdet(cfg, weights, tmp_path / 'mmdet')
    paths = mmdet_to_darknet(config, checkpoint, tmp_path / 'opencv', opencv_thresh=THRESH)
    assert OpenCVNetwork(*paths[:2]).region(torch.rand(1, 3, 64, 64)).shape == (4, 25)


def test_a_detector_runs_on_opencvs_map(tmp_path):
    options = networks.NETWORKS['yolov2-voc'] | dict(size=(96, 64), width=0.125, fine=32)
    cfg, weights = networks.write(tmp_path, **options)
    config, checkpoint = darknet_to_mmdet(cfg, weights, tmp_path)
    model, _ = load_detector(Config.fromfile(config), checkpoint)
    inputs = torch.rand(2, 3, 64, 96)
    meta = dict(
        img_shape=(64, 96), ori_shape=(64, 96), scale_factor=(1.0, 1.0), batch_input_shape=(64, 96)
    )
    head = model.bbox_head
    with torch.no_grad():
        expected = head.predict_by_feat(head(model.extract_feat(inputs)), [meta] * 2)
        paths = mmdet_to_darknet(config, checkpoint, tmp_path / 'opencv', opencv_thresh=0.25)
        use_opencv(model, OpenCVNetwork(*paths[:2]))
        found = head.predict_by_feat(head(model.extract_feat(inputs)), [meta] * 2)
    for one, other in zip(expected, found):
        assert len(one) == len(other) > 0
        torch.testing.assert_close(one.scores, other.scores, rtol=1e-3, atol=1e-5)
        torch.testing.assert_close(one.bboxes, other.bboxes, rtol=1e-3, atol=1e-2)
