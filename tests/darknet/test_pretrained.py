"""Darknet files as a start for training: init_cfg=dict(type='PretrainedDarknet', ...)."""

import numpy as np
import pytest
import torch
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.registry import init_default_scope

from mmdet_yolo2fl.darknet import darknet_to_mmdet
from mmdet_yolo2fl.detector import load_detector

from . import networks

NARROW = dict(networks.NETWORKS['yolov2-voc'], width=1 / 16, fine=64, size=(64, 64))
# darknet19.cfg: the backbone, a 1x1 convolution to 1000 classes with neither pooling nor
# normalization, average pooling and softmax, which have no weights.
BACKBONE = networks.cfg_text(networks.DARKNET19, width=1 / 16)


def backbone_weights(last_filters=0):
    """A classifier's file; ``last_filters=0`` is one cut behind the backbone (conv.23)."""
    shapes = networks.layer_sizes(BACKBONE)[:-1]
    data = networks.random_weights(BACKBONE, seed=3)
    size = sum(f * (c * k * k + 4) for c, f, k, _ in shapes)
    cut = data[: 20 + 4 * size]
    rest = np.random.default_rng(0).random(last_filters * (shapes[-1][1] + 1), dtype=np.float32)
    return cut + rest.tobytes()


def darknet19(path):
    backbone = MODELS.build(
        dict(
            type='Darknet19',
            widen_factor=1 / 16,
            init_cfg=dict(type='PretrainedDarknet', checkpoint=str(path)),
        )
    )
    backbone.init_weights()
    return backbone


@pytest.mark.parametrize('last_filters', [0, 1000])
def test_a_classifier_starts_the_backbone(tmp_path, last_filters):
    path = tmp_path / 'darknet19_448.conv.23'
    path.write_bytes(backbone_weights(last_filters))
    backbone = darknet19(path)
    values = np.frombuffer(backbone_weights()[20:], '<f4')
    first, last = backbone.stages[0][0], backbone.stages[5][-1]
    np.testing.assert_array_equal(first.bn.bias.detach(), values[:2])
    weight = last.conv.weight.detach().flatten()
    np.testing.assert_array_equal(weight, values[-weight.numel() :])


def test_the_rest_of_a_detector_keeps_its_own_start(tmp_path):
    path = tmp_path / 'darknet19_448.conv.23'
    path.write_bytes(backbone_weights())
    cfg, weights = networks.write(tmp_path, **NARROW)
    config = Config.fromfile(darknet_to_mmdet(cfg, weights, tmp_path)[0])
    config.model.backbone.init_cfg = dict(type='PretrainedDarknet', checkpoint=str(path))
    config.model.bbox_head.prior_prob = 0.01
    init_default_scope('mmdet')
    model = MODELS.build(config.model)
    model.init_weights()
    values = np.frombuffer(backbone_weights()[20:], '<f4')
    np.testing.assert_array_equal(model.backbone.stages[0][0].bn.bias.detach(), values[:2])
    bias = model.bbox_head.conv_pred.bias.view(5, 25)[:, 4]
    torch.testing.assert_close(bias.sigmoid(), torch.full((5,), 0.01))


@pytest.mark.parametrize('classes', [20, 3])
def test_a_whole_detector(tmp_path, monkeypatch, classes):
    init_default_scope('mmdet')
    cfg, weights = networks.write(tmp_path, **NARROW)
    config, checkpoint = darknet_to_mmdet(cfg, weights, tmp_path)
    config = Config.fromfile(config)
    expected, _ = load_detector(config, checkpoint)
    config.model.bbox_head.num_classes = classes
    config.model.init_cfg = dict(type='PretrainedDarknet', checkpoint=str(weights))
    model = MODELS.build(config.model)
    log = []
    monkeypatch.setattr(
        'mmdet_yolo2fl.darknet.pretrained.print_log', lambda message, **_: log.append(message)
    )
    model.init_weights()
    state = model.state_dict()
    same = classes == 20
    assert bool(state['bbox_head.seen']) == same
    config.model.init_cfg.reset_seen = True
    cleared = MODELS.build(config.model)
    cleared.init_weights()
    assert cleared.bbox_head.seen == 0
    for key, value in expected.state_dict().items():
        if 'conv_pred' in key or key == 'bbox_head.seen':
            assert same == (value.shape == state[key].shape and bool((value == state[key]).all()))
        else:
            torch.testing.assert_close(state[key], value, rtol=0, atol=0)
    said = '\n'.join(log)
    assert ('starts at random' in said) == (not same)
    if not same:
        assert '125 filters, that of this detector 40' in said
        assert state['bbox_head.conv_pred.weight'].std() < 0.02  # the head's own init_cfg


def test_a_detector_without_its_last_convolution(tmp_path, monkeypatch):
    """As ``darknet partial`` cuts it, to start other classes."""
    init_default_scope('mmdet')
    cfg, weights = networks.write(tmp_path, **NARROW)
    config, checkpoint = darknet_to_mmdet(cfg, weights, tmp_path)
    config = Config.fromfile(config)
    expected, _ = load_detector(config, checkpoint)
    last = expected.bbox_head.conv_pred
    size = sum(parameter.numel() for parameter in last.parameters())
    weights.write_bytes(weights.read_bytes()[: -4 * size])
    config.model.init_cfg = dict(type='PretrainedDarknet', checkpoint=str(weights))
    model, log = MODELS.build(config.model), []
    monkeypatch.setattr(
        'mmdet_yolo2fl.darknet.pretrained.print_log', lambda message, **_: log.append(message)
    )
    model.init_weights()
    assert 'ends before the last convolution' in '\n'.join(log)
    state = model.state_dict()
    assert state['bbox_head.seen'] == 0
    for key, value in expected.state_dict().items():
        if 'conv_pred' not in key and key != 'bbox_head.seen':
            assert torch.equal(state[key], value), key


def test_files_that_do_not_fit_are_refused(tmp_path):
    path = tmp_path / 'some.weights'
    path.write_bytes(backbone_weights()[:-4])
    with pytest.raises(ValueError, match=r'some.weights: the weights of stages.5.5.*cut off'):
        darknet19(path)
    path.unlink()
    with pytest.raises(FileNotFoundError, match='some.weights'):
        darknet19(path)
    # Tiny's weights in Darknet-19: the numbers lie elsewhere, and variances become negative.
    tiny = dict(networks.NETWORKS['yolov2-tiny-voc'], width=0.5)
    _, path = networks.write(tmp_path, 'tiny', **tiny)
    with pytest.raises(ValueError, match='negative variance.*another network'):
        darknet19(path)

    cfg, weights = networks.write(tmp_path, **NARROW)
    config = Config.fromfile(darknet_to_mmdet(cfg, weights, tmp_path)[0])
    config.model.init_cfg = dict(type='PretrainedDarknet', checkpoint=str(weights))
    data = weights.read_bytes()
    for content, message in (
        (data + bytes(4), 'belongs to another network'),
        (backbone_weights(), "belongs into the backbone's init_cfg"),
    ):
        weights.write_bytes(content)
        with pytest.raises(ValueError, match=message):
            MODELS.build(config.model).init_weights()
    head = dict(config.model.bbox_head, init_cfg=config.model.init_cfg)
    with pytest.raises(ValueError, match='move the init_cfg of YOLOV2Head'):
        MODELS.build(head).init_weights()


def test_a_backbone_that_darknet_does_not_know(tmp_path):
    path = tmp_path / 'some.weights'
    path.write_bytes(backbone_weights())
    cfg = dict(type='MobileNetV2', init_cfg=dict(type='PretrainedDarknet', checkpoint=str(path)))
    with pytest.raises(ValueError, match='plain convolutions'):
        MODELS.build(cfg).init_weights()
