"""One state of the adaptive losses for all processes."""

from mmdet.registry import HOOKS
from mmengine.hooks import Hook
from mmengine.runner import Runner

from ...models.losses.adaptive_focal_loss import AdaptiveFocalLoss


@HOOKS.register_module()
class AdaptiveLossSyncHook(Hook):
    """Bring ``AutomatedFocalLoss`` and ``EqualizedFocalLoss`` of all ranks together.

    For training with several processes, ``dict(type='AdaptiveLossSyncHook')`` among the
    ``custom_hooks``. After each iteration the losses take the mean of their states: MMEngine's
    ``SyncBuffersHook`` for these alone, and not only after each epoch. Within an iteration a rank
    goes by the common state and its own batch.

    Raises:
        ValueError: At the start of training, if the model has no such loss.
    """

    # Before an average of the weights is taken, and before checkpoints.
    priority = 'HIGH'

    def before_train(self, runner: Runner) -> None:
        """Find the losses, and let them begin with the same state."""
        self.losses = [m for m in runner.model.modules() if isinstance(m, AdaptiveFocalLoss)]
        if not self.losses:
            raise ValueError(
                'AdaptiveLossSyncHook: the model has neither an AutomatedFocalLoss nor an '
                'EqualizedFocalLoss; leave it out'
            )
        self._synchronize()

    def after_train_iter(self, runner: Runner, *args, **kwargs) -> None:
        """Take the mean over the ranks."""
        self._synchronize()

    def _synchronize(self) -> None:
        for loss in self.losses:
            loss.synchronize()
