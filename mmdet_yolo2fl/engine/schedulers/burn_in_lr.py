"""Darknet's warm-up of the learning rate."""

from mmdet.registry import PARAM_SCHEDULERS
from mmengine.optim import _ParamScheduler
from mmengine.optim.scheduler.lr_scheduler import LRSchedulerMixin


@PARAM_SCHEDULERS.register_module()
class BurnInLR(LRSchedulerMixin, _ParamScheduler):
    """``lr * (k / burn_in) ** power`` at the k-th update, k = 1, 2, ... (``[net] burn_in``).

    Darknet counts the batch that it is about to learn from (``get_current_rate``, network.c), so
    the first update has ``k = 1`` and the rate is whole from update ``burn_in`` on. It may be
    chained with MMEngine's other schedulers: Darknet's ``steps=40000`` takes effect at update
    40000, which is ``milestones=[39999]`` of ``MultiStepLR``, whose count begins at 0.

    Under gradient accumulation a step is an update only with
    :class:`AccumulatedParamSchedulerHook`.

    Args:
        optimizer (Optimizer | OptimWrapper): The optimizer.
        burn_in (int): Updates until the whole rate is reached; Darknet's ``burn_in``. Defaults
            to 1000.
        power (float): Darknet's ``power``. Defaults to 4.0, its default.
        begin, end, last_step, by_epoch, verbose: As of MMEngine's schedulers. A config sets
            ``by_epoch=False``.

    Raises:
        ValueError: If ``burn_in`` or ``power`` is not positive.
    """

    def __init__(self, *args, burn_in: int = 1000, power: float = 4.0, **kwargs) -> None:
        if not isinstance(burn_in, int) or burn_in < 1:
            raise ValueError(f'BurnInLR: burn_in must be a positive integer, got {burn_in!r}')
        if power <= 0:
            raise ValueError(f'BurnInLR: power must be positive, got {power}')
        self.burn_in = burn_in
        self.power = power
        super().__init__(*args, **kwargs)

    def _get_value(self) -> list[float]:
        # Relative to the value of the step before, as MMEngine chains its schedulers.
        update = self.last_step + 1
        if update > self.burn_in:
            factor = 1.0
        elif update == 1:
            factor = (1 / self.burn_in) ** self.power
        else:
            factor = (update / (update - 1)) ** self.power
        return [group[self.param_name] * factor for group in self.optimizer.param_groups]
