"""Stop at the first loss that is NaN or infinite."""

import math

import torch
from mmdet.registry import HOOKS
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import Tensor
from torch.nn import Parameter


@HOOKS.register_module()
class NonFiniteLossHook(Hook):
    """Stop the run at a NaN or infinite loss, before it reaches a checkpoint.

    Unlike MMDetection's ``CheckInvalidLossHook`` it looks at every iteration, and names the
    term, the iteration and the images. By the time a hook sees a loss the optimizer has used
    it, so this one runs before those that log and save. It also refuses to save weights that
    are not finite, as an infinite gradient of a finite loss leaves them.

    All terms are tested at once, which waits for the device once per iteration: next to
    nothing, as MMEngine's ``RuntimeInfoHook`` has already read every term for the log.
    """

    priority = 'ABOVE_NORMAL'

    def after_train_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: dict | None = None,
        outputs: dict[str, Tensor] | None = None,
    ) -> None:
        """Check the losses of an iteration.

        Args:
            runner (Runner): The runner.
            batch_idx (int): Index of the batch in the epoch.
            data_batch (dict, optional): The batch, as the data loader gave it.
            outputs (dict[str, Tensor], optional): Scalars by name. Those with 'loss' in their
                name are losses, by MMEngine's rule.

        Raises:
            FloatingPointError: If a loss is NaN or infinite.
        """
        losses = {name: value.detach() for name, value in outputs.items() if 'loss' in name}
        if torch.stack([loss.float() for loss in losses.values()]).isfinite().all():
            return
        values = {name: loss.item() for name, loss in losses.items()}
        total = values.pop('loss', math.nan)
        bad = {name: value for name, value in values.items() if not math.isfinite(value)}
        raise FloatingPointError(
            f'Non-finite loss at iteration {runner.iter + 1} (epoch {runner.epoch + 1}, batch '
            f'{batch_idx + 1}): {_listed(bad or dict(loss=total))}. All terms: {_listed(values)}. '
            f'Images: {_image_names(data_batch)}. The weights may be spoilt and were not saved. '
            'Look at these images and their boxes; if they are sound, lower the learning rate, '
            'warm up for longer or clip the gradients (`optim_wrapper.clip_grad`), and resume from '
            'the last checkpoint.'
        )

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Refuse to save weights that are not finite.

        Args:
            runner (Runner): The runner.
            checkpoint (dict): What is to be saved.

        Raises:
            FloatingPointError: If a weight or buffer is NaN or infinite.
        """
        meta = checkpoint['meta']
        for name, value in checkpoint['state_dict'].items():
            # The shares that FSDP keeps on each process cannot be asked.
            if type(value) in (Tensor, Parameter) and not value.isfinite().all():
                raise FloatingPointError(
                    f'{name} holds NaN or infinite values after iteration {meta["iter"]} (epoch '
                    f'{meta["epoch"]}) and is not saved: the loss was finite, its gradient was '
                    'not. Clip the gradients (`optim_wrapper.clip_grad`) or lower the learning '
                    'rate, and resume from the last checkpoint.'
                )


def _listed(values: dict[str, float]) -> str:
    return ', '.join(f'{name} = {value:.4g}' for name, value in values.items())


def _image_names(data_batch: dict | None) -> str:
    """Names of a batch's images: their paths, or else their ids."""
    samples = data_batch.get('data_samples', ()) if isinstance(data_batch, dict) else ()
    metas = [sample.metainfo for sample in samples if hasattr(sample, 'metainfo')]
    names = [str(meta.get('img_path', meta.get('img_id', '?'))) for meta in metas]
    return ', '.join(names) or 'unknown'
