"""Schedules that count updates instead of mini-batches."""

from mmdet.registry import HOOKS
from mmengine.hooks import ParamSchedulerHook
from mmengine.optim import OptimWrapper, OptimWrapperDict
from mmengine.runner import Runner

from ...config_parts import as_list


@HOOKS.register_module()
class AccumulatedParamSchedulerHook(ParamSchedulerHook):
    """Step the iteration-based schedulers once per update of the optimizer.

    MMEngine's hook steps them at each mini-batch, so that under gradient accumulation
    (``optim_wrapper.accumulative_counts``) every ``begin``, ``end`` and ``milestones`` would have
    to be multiplied. With this hook they count updates: Darknet's batches, of which a mini-batch
    is one subdivision. Epoch-based schedulers step as ever; MMEngine turns those with
    ``convert_to_iter_based`` into schedules by mini-batches, which are refused.

    It takes the place of MMEngine's: ``default_hooks = dict(param_scheduler=dict(type=...))``.
    """

    def before_train(self, runner: Runner) -> None:
        """Check that there is one optimizer whose updates can be counted.

        Args:
            runner (Runner): The runner.

        Raises:
            TypeError: If the optimizer wrapper is not an ``OptimWrapper``, or one of several.
            ValueError: If gradients are accumulated and a scheduler has ``convert_to_iter_based``.
        """
        wrapper = runner.optim_wrapper
        if not isinstance(wrapper, OptimWrapper) or isinstance(wrapper, OptimWrapperDict):
            raise TypeError(
                'AccumulatedParamSchedulerHook counts the updates of one OptimWrapper, but '
                f"optim_wrapper is {type(wrapper).__name__}: use MMEngine's ParamSchedulerHook"
            )

        schedulers = as_list(runner.cfg.get('param_scheduler'))
        converted = [one['type'] for one in schedulers if one.get('convert_to_iter_based')]
        if converted and wrapper._accumulative_counts > 1:
            raise ValueError(
                f'AccumulatedParamSchedulerHook: {converted} has convert_to_iter_based, by which '
                'MMEngine counts mini-batches, and would end too late: give by_epoch=False, and '
                'begin, end and T_max in updates of the optimizer'
            )

    def after_train_iter(self, runner: Runner, *args, **kwargs) -> None:
        """Step the schedulers if this iteration has updated the weights.

        Args:
            runner (Runner): The runner.
        """
        # The count has not changed since update_params() asked the same.
        if runner.optim_wrapper.should_update():
            super().after_train_iter(runner, *args, **kwargs)
