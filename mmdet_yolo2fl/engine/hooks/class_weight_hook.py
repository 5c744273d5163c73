"""Weights of the classes, counted instead of guessed."""

from collections.abc import Sequence

import torch
from mmdet.models.dense_heads import DeformableDETRHead
from mmdet.models.losses import EQLV2Loss
from mmdet.registry import HOOKS
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner
from torch import nn

from ...imbalance import METHODS, class_columns, class_counts, class_weights
from ...models.losses import BalancedFocalLoss

NAMES = ('loss_cls', 'initial_loss_cls')


@HOOKS.register_module()
class ClassWeightHook(Hook):
    """Set the ``class_weight`` of classification losses from the training set, before training.

    ``custom_hooks = [dict(type='ClassWeightHook')]`` is all. The boxes of each class are counted
    in the annotations, as an epoch shows them: ``RepeatDataset`` and ``ClassBalancedDataset``
    count, a sampler such as ``ClassAwareSampler``, which balances already, does not. The mean of
    the weights of the classes with boxes is 1. It is the positive term of a sigmoid loss that they
    multiply. A resumed run counts again, and finds the same.

    Args:
        method (str): 'effective_number' (arXiv:1901.05555) or 'inverse_frequency'. Defaults to
            'effective_number'.
        beta (float): Of the effective number, in [0, 1). Defaults to 0.999.
        losses (Sequence[str], optional): Names of the loss modules, such as
            ``'bbox_head.loss_cls'``. Defaults to None: every ``loss_cls`` (and
            ``initial_loss_cls``, of TOOD) that has a ``class_weight`` (:class:`BalancedFocalLoss`
            and its family, MMDetection's ``CrossEntropyLoss``), in a head that tells the classes
            apart (an RPN does not).

    Raises:
        ValueError: If an argument is out of its range; at the start of training if there is no
            such loss, if its head has another number of classes than the data set, or if the
            config sets its weights already.
    """

    def __init__(
        self,
        method: str = 'effective_number',
        beta: float = 0.999,
        losses: Sequence[str] | None = None,
    ) -> None:
        if method not in METHODS:
            raise ValueError(f'ClassWeightHook: method must be one of {METHODS}, got {method!r}')
        if not 0 <= beta < 1:
            raise ValueError(f'ClassWeightHook: beta must lie in [0, 1), got {beta}')
        self.method = method
        self.beta = beta
        self.losses = losses

    def before_train(self, runner: Runner) -> None:
        """Count, and set the weights."""
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        modules = dict(model.named_modules())
        classes = list(runner.train_dataloader.dataset.metainfo['classes'])
        if self.losses is None:
            names = [name for name in modules if name.split('.')[-1] in NAMES]
            names = [name for name in names if _takes_weights(modules[name])]
            names = [
                name
                for name in names
                if class_columns(_head(modules, name)) - len(classes) in (0, 1)
            ]
        else:
            names = self.losses
        wrong = [name for name in names if not _takes_weights(modules.get(name))]
        if wrong or not names:
            losses = {
                name: type(module).__name__
                for name, module in modules.items()
                if 'loss' in name.split('.')[-1]
            }
            subject = f'{wrong} do not take' if wrong else 'no loss_cls takes'
            raise ValueError(
                f'ClassWeightHook: {subject} a class_weight, as BalancedFocalLoss does, for '
                f'{len(classes)} classes; the model has {losses}'
            )
        sampler = type(getattr(runner.train_dataloader, 'sampler', None)).__name__
        if sampler == 'ClassAwareSampler':
            runner.logger.warning(
                'ClassWeightHook: ClassAwareSampler shows rare classes as often as others already, '
                'and the weights of the classes favour them once more: take one of the two'
            )
        # Not its heirs: DINO has the classes there too.
        if any(type(m) is DeformableDETRHead and m.as_two_stage for m in modules.values()):
            runner.logger.warning(
                'ClassWeightHook: MMDetection calls every object of the first stage of Deformable '
                f'DETR {classes[0]!r}, and gives it the weight of that class'
            )
        counts = class_counts(runner.train_dataloader.dataset, len(classes))
        weights = class_weights(counts, self.method, self.beta)
        for name in names:
            self._set(modules, name, weights)
        found = ', '.join(
            f'{label} {weight:.3g} ({count} boxes)'
            for label, weight, count in zip(classes, weights, counts)
        )
        runner.logger.info(f'Weights of the classes ({self.method}) in {", ".join(names)}: {found}')
        for label, count in zip(classes, counts):
            if count == 0:
                runner.logger.warning(f'No box of {label} in the training set: it weighs the most')

    def _set(self, modules: dict, name: str, weights) -> None:
        loss, head = modules[name], _head(modules, name)
        if loss.class_weight is not None and not hasattr(loss, '_class_weight_hook'):
            raise ValueError(f'ClassWeightHook: the config sets class_weight of {name} already')
        further = class_columns(head) - len(weights)
        if further not in (0, 1):
            raise ValueError(
                f'ClassWeightHook: the data set has {len(weights)} classes, but {name} belongs to '
                f'a {type(head).__name__} of {class_columns(head)}'
            )
        loss._class_weight_hook = True
        # One more for the background of a softmax.
        values = torch.as_tensor([*weights, *[1.0] * further], dtype=torch.float32)
        if isinstance(loss, BalancedFocalLoss):
            # No buffer any more: EMAHook has copied the model before, without this one, and
            # MMEngine pairs the buffers of both by their positions.
            loss._buffers.pop('class_weight', None)
            loss.class_weight = values.to(next(head.parameters()).device)
        else:
            loss.class_weight = values.tolist()


def _takes_weights(loss: nn.Module | None) -> bool:
    """(EQLV2Loss has the attribute, and never reads it.)"""
    return hasattr(loss, 'class_weight') and not isinstance(loss, EQLV2Loss)


def _head(modules: dict[str, nn.Module], loss_name: str) -> nn.Module:
    return modules[loss_name.rpartition('.')[0]]
