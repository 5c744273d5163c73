from types import SimpleNamespace

import pytest
from mmdet.registry import HOOKS
from torch import nn

from mmdet_yolo2fl.models import AutomatedFocalLoss, BalancedFocalLoss, EqualizedFocalLoss


def run_of(*losses):
    model = nn.Module()
    model.losses = nn.ModuleList(losses)
    return SimpleNamespace(model=model)


def test_the_state_is_shared_at_the_start_and_after_each_iteration(monkeypatch):
    asked = []
    for kind in (AutomatedFocalLoss, EqualizedFocalLoss):
        monkeypatch.setattr(kind, 'synchronize', lambda loss: asked.append(type(loss).__name__))
    hook = HOOKS.build(dict(type='AdaptiveLossSyncHook'))
    run = run_of(AutomatedFocalLoss(), BalancedFocalLoss(), EqualizedFocalLoss(num_classes=3))
    hook.before_train(run)
    both = ['AutomatedFocalLoss', 'EqualizedFocalLoss']
    assert asked == both
    hook.after_train_iter(run, 0)
    assert asked == 2 * both


def test_a_model_without_adaptive_losses():
    hook = HOOKS.build(dict(type='AdaptiveLossSyncHook'))
    with pytest.raises(ValueError, match='neither an AutomatedFocalLoss nor an EqualizedFocalLoss'):
        hook.before_train(run_of(BalancedFocalLoss()))
