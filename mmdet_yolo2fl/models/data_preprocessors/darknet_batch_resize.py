"""Multi-scale training in Darknet's rhythm."""

import torch
from mmdet.models.data_preprocessors import BatchSyncRandomResize
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmengine.logging import MessageHub
from torch import Tensor


@MODELS.register_module()
class DarknetBatchResize(BatchSyncRandomResize):
    """Another random size every ``interval`` batches, one fixed size at the end.

    MMDetection's ``BatchSyncRandomResize`` counts mini-batches, trains its first interval at the
    size of the data, and has no last phase. Here it is as with ``random=1`` in Darknet's region
    layer (``train_detector``, detector.c): with n batches done, a size is drawn at n = 0, 10,
    20, ...; and from the first such n on with ``n + final_batches > max_batches`` the size is
    ``final_size``. A batch is an update of the weights: ``accumulative_counts`` mini-batches.
    All ranks draw the same height. After a resume without ``RandomStateHook`` a size is drawn at
    once.

    The lengths of the run are those that MMEngine's runner leaves in its message hub.

    Args:
        random_size_range (tuple[int]): Smallest and largest height in pixels, both included,
            multiples of ``size_divisor``. Defaults to (320, 608).
        interval (int): Batches between two draws. Defaults to 10.
        size_divisor (int): Step of the sizes in pixels. Defaults to 32.
        accumulative_counts (int): Mini-batches of a batch, as of ``optim_wrapper``. Defaults
            to 1.
        final_size (int): Height in pixels at the end, a multiple of ``size_divisor``. Defaults
            to 608.
        final_batches (int): How many batches the end has, at most. Defaults to 200.

    The width follows the aspect of the batch, rounded down to the divisor; Darknet's master trains
    on squares, whatever the cfg's width and height.

    Raises:
        ValueError: If ``final_size`` is no multiple of ``size_divisor``, or an interval, a divisor
            or ``accumulative_counts`` is less than 1.
    """

    def __init__(
        self,
        random_size_range: tuple[int, int] = (320, 608),
        interval: int = 10,
        size_divisor: int = 32,
        accumulative_counts: int = 1,
        final_size: int = 608,
        final_batches: int = 200,
    ) -> None:
        if min(interval, accumulative_counts) < 1:
            raise ValueError(
                'DarknetBatchResize: interval and accumulative_counts must be at least 1, got '
                f'{interval} and {accumulative_counts}'
            )
        if size_divisor < 1:
            raise ValueError(
                f'DarknetBatchResize: size_divisor must be at least 1, got {size_divisor}'
            )
        if final_size < size_divisor or final_size % size_divisor:
            raise ValueError(
                f'DarknetBatchResize: final_size must be a multiple of {size_divisor}, '
                f'got {final_size}'
            )
        # At the end of an interval in mini-batches the parent draws the size of the next one.
        super().__init__(random_size_range, interval * accumulative_counts, size_divisor)
        self.accumulative_counts = accumulative_counts
        self.final_size = final_size
        self.final_batches = final_batches

    def forward(
        self, inputs: Tensor, data_samples: list[DetDataSample]
    ) -> tuple[Tensor, list[DetDataSample]]:
        """Resize a batch and its boxes.

        Args:
            inputs (Tensor): Images ``(N, C, H, W)``.
            data_samples (list[DetDataSample]): N samples; boxes and shapes are changed in place.

        Returns:
            tuple[Tensor, list[DetDataSample]]: Both at the size of the current interval.
        """
        if self._input_size is None:
            height, width = inputs.shape[-2:]
            self._input_size = self._get_random_size(width / height, inputs.device, ahead=0)
        return super().forward(inputs, data_samples)

    def _get_random_size(
        self, aspect_ratio: float, device: torch.device, ahead: int = 1
    ) -> tuple[int, int]:
        """The ``(height, width)`` of the interval that begins ``ahead`` iterations from now."""
        hub = MessageHub.get_current_instance()
        batches_done = (hub.get_info('iter') + ahead) // self.accumulative_counts
        max_batches = hub.get_info('max_iters') // self.accumulative_counts
        if batches_done + self.final_batches <= max_batches:
            return super()._get_random_size(aspect_ratio, device)
        cells = int(aspect_ratio * (self.final_size // self._size_divisor))
        return self.final_size, self._size_divisor * cells
