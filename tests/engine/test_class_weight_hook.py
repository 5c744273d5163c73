import logging
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmdet.datasets.samplers import ClassAwareSampler
from mmdet.models.losses import CrossEntropyLoss, EQLV2Loss
from mmdet.registry import MODELS
from mmengine.hub import get_config
from mmengine.model import ExponentialMovingAverage
from mmengine.registry import init_default_scope
from torch import nn

from mmdet_yolo2fl.engine import ClassWeightHook
from mmdet_yolo2fl.imbalance import class_weights
from mmdet_yolo2fl.models import BalancedFocalLoss
from tests.test_imbalance import ListDataset

COUNTS = [6, 2, 1]


def run_of(loss, channels=3, dataset=None):
    """A run with what the hook looks at."""
    head = nn.Conv2d(1, channels, 1)
    head.cls_out_channels = channels
    head.loss_cls = loss
    model = nn.Module()
    model.bbox_head = head
    dataset = dataset or ListDataset([0] * 4, [0, 0, 1], [1, 2])
    return SimpleNamespace(
        model=model,
        train_dataloader=SimpleNamespace(dataset=dataset),
        logger=logging.getLogger('test'),
    )


@pytest.mark.parametrize('method', ['effective_number', 'inverse_frequency'])
def test_weights_reach_the_loss(method):
    loss = BalancedFocalLoss(gamma=2.0, alpha=0.25)
    ClassWeightHook(method=method).before_train(run_of(loss))
    expected = class_weights(COUNTS, method)
    np.testing.assert_allclose(loss.class_weight, expected, rtol=1e-6)
    pred, target = torch.randn(5, 3), torch.tensor([0, 1, 2, 3, 0])
    by_hand = BalancedFocalLoss(gamma=2.0, alpha=0.25, class_weight=expected.tolist())
    torch.testing.assert_close(loss(pred, target), by_hand(pred, target))
    # A second training in the same process counts again.
    ClassWeightHook(method=method).before_train(run_of(loss))


def test_an_average_of_the_weights_made_before():
    """MMEngine pairs the buffers of a model and of its copy by their positions."""
    run = run_of(BalancedFocalLoss())
    run.model.late = nn.BatchNorm2d(4)  # its buffers come after those of the loss
    average = ExponentialMovingAverage(run.model)
    ClassWeightHook().before_train(run)
    run.model.late.running_mean.fill_(3.0)
    average.update_parameters(run.model)
    assert average.module.late.running_mean.tolist() == [3.0] * 4
    assert average.module.bbox_head.loss_cls.class_weight is None


def test_class_aware_sampling_besides_is_named(caplog):
    run = run_of(BalancedFocalLoss())
    run.train_dataloader.sampler = object.__new__(ClassAwareSampler)
    ClassWeightHook().before_train(run)
    assert 'take one of the two' in caplog.text


def test_softmax_with_a_background():
    loss = CrossEntropyLoss()
    ClassWeightHook().before_train(run_of(loss, channels=4))
    np.testing.assert_allclose(loss.class_weight, [*class_weights(COUNTS), 1.0], rtol=1e-6)
    assert loss(torch.randn(5, 4), torch.tensor([0, 1, 2, 3, 3])).isfinite()


def test_the_second_stage_of_two():
    """The RPN tells no classes apart, and the second stage has a column for the background."""
    init_default_scope('mmdet')
    cfg = get_config('mmdet::faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py').model
    cfg.backbone.init_cfg = None
    cfg.roi_head.bbox_head.num_classes = 3
    run = run_of(CrossEntropyLoss())
    run.model = MODELS.build(cfg)
    ClassWeightHook().before_train(run)
    assert run.model.rpn_head.loss_cls.class_weight is None
    found = run.model.roi_head.bbox_head.loss_cls.class_weight
    np.testing.assert_allclose(found, [*class_weights(COUNTS), 1.0], rtol=1e-6)
    with pytest.raises(ValueError, match='3 classes, but rpn_head.loss_cls .* RPNHead of 1'):
        ClassWeightHook(losses=['rpn_head.loss_cls']).before_train(run)


def test_names_classes_without_boxes(caplog):
    with caplog.at_level(logging.INFO):
        ClassWeightHook().before_train(
            run_of(BalancedFocalLoss(), dataset=ListDataset([0, 1], [0]))
        )
    assert 'No box of c in the training set' in caplog.text
    assert 'in bbox_head.loss_cls: a ' in caplog.text and '(2 boxes)' in caplog.text


@pytest.mark.parametrize(
    'options, loss, message',
    [
        (dict(), nn.MSELoss(), "no loss_cls takes a class_weight.*'MSELoss'"),
        (dict(), EQLV2Loss(num_classes=3), "no loss_cls takes a class_weight.*'EQLV2Loss'"),
        (dict(losses=['bbox_head.loss_obj']), BalancedFocalLoss(), r"loss_obj'\] do not take"),
        (dict(), BalancedFocalLoss(class_weight=[1.0, 2.0, 3.0]), 'sets class_weight'),
    ],
)
def test_unfit_models(options, loss, message):
    with pytest.raises(ValueError, match=message):
        ClassWeightHook(**options).before_train(run_of(loss))


def test_both_losses_of_tood():
    run = run_of(BalancedFocalLoss())
    run.model.bbox_head.initial_loss_cls = BalancedFocalLoss(activated=True)
    ClassWeightHook().before_train(run)
    head = run.model.bbox_head
    assert head.initial_loss_cls.class_weight.tolist() == head.loss_cls.class_weight.tolist()


@pytest.mark.parametrize('options', [dict(method='x'), dict(beta=1.0)])
def test_bad_arguments(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        ClassWeightHook(**options)


@pytest.mark.parametrize(
    ('kind', 'columns'),
    [('BBoxHead', 4), ('DIIHead', 3), ('SABLHead', 4), ('MultiInstanceBBoxHead', 4)],
)
def test_columns_of_second_stages(kind, columns):
    """DIIHead, of Sparse R-CNN, has none for the background; SABLHead names a hidden width."""
    sigmoid = kind == 'DIIHead'
    loss = dict(type='BalancedFocalLoss', use_sigmoid=sigmoid)
    run = run_of(BalancedFocalLoss())
    run.model.bbox_head = MODELS.build(dict(type=f'mmdet.{kind}', num_classes=3, loss_cls=loss))
    ClassWeightHook().before_train(run)
    found = run.model.bbox_head.loss_cls
    expected = [*class_weights(COUNTS), *[1.0] * (columns - 3)]
    np.testing.assert_allclose(found.class_weight, expected, rtol=1e-6)
    assert found(torch.randn(5, columns), torch.tensor([0, 1, 2, 2, 0])).isfinite()


@pytest.mark.parametrize(
    ('kind', 'two_stages', 'named'),
    [
        ('DeformableDETRHead', True, True),
        ('DeformableDETRHead', False, False),
        ('DINOHead', True, False),
    ],
)
def test_the_first_stage_of_deformable_detr_is_named(kind, two_stages, named, caplog):
    init_default_scope('mmdet')
    loss = dict(type='BalancedFocalLoss', use_sigmoid=True)
    run = run_of(BalancedFocalLoss())
    run.model.bbox_head = MODELS.build(
        dict(
            type=kind,
            num_classes=3,
            share_pred_layer=not two_stages,
            num_pred_layer=7 if two_stages else 6,
            as_two_stage=two_stages,
            loss_cls=loss,
        )
    )
    ClassWeightHook().before_train(run)
    assert ('calls every object of the first stage' in caplog.text) == named


def test_beta_reaches_the_weights():
    loss = BalancedFocalLoss()
    ClassWeightHook(beta=0.9).before_train(run_of(loss))
    raw = np.array([0.1 / (1 - 0.9**count) for count in COUNTS])
    np.testing.assert_allclose(loss.class_weight, raw / raw.mean(), rtol=1e-6)
