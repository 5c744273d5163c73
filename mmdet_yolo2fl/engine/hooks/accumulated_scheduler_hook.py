"""Schedules that count updates instead of mini-batches."""

from mmdet.registry import HOOKS
from mmengine.hooks import ParamSchedulerHook
from mmengine.optim import OptimWrapper, OptimWrapperDict
from mmengine.runner import Runner


@HOOKS.register_module()
class AccumulatedParamSchedulerHook(ParamSchedulerHook):
    """Step the iteration-based schedulers once per update of the optimizer.

    MMEngine's hook steps them at each mini-batch, so that under gradient accumulation
    (``optim_wrapper.accumulative_counts``) every ``begin``, ``end`` and ``milestones`` would have
    to be multiplied. With this hook they count updates: Darknet's batches, of which a mini-batch
    is one subdivision. Epoch-based schedulers step as ever.

    It takes the place of MMEngine's: ``default_hooks = dict(param_scheduler=dict(type=...))``.
    """

    def before_train(self, runner: Runner) -> None:
        """Check that there is one optimizer whose updates can be counted.

        Args:
            runner (Runner): The runner.

        Raises:
            TypeError: If the optimizer wrapper is not an ``OptimWrapper``, or one of several.
        """
        wrapper = runner.optim_wrapper
        if not isinstance(wrapper, OptimWrapper) or isinstance(wrapper, OptimWrapperDict):
            raise TypeError(
                'AccumulatedParamSchedulerHook counts the updates of one OptimWrapper, but '
                f"optim_wrapper is {type(wrapper).__name__}: use MMEngine's ParamSchedulerHook"
            )

    def after_train_iter(self, runner: Runner, *args, **kwargs) -> None:
        """Step the schedulers if this iteration has updated the weights.

        Args:
            runner (Runner): The runner.
        """
        # The count has not changed since update_params() asked the same.
        if runner.optim_wrapper.should_update():
            super().after_train_iter(runner, *args, **kwargs)
