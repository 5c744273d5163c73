"""Mixed precision on a processor as on an accelerator."""

import torch
from mmdet.registry import OPTIM_WRAPPERS
from mmengine.device import get_device
from mmengine.optim import AmpOptimWrapper, OptimWrapper
from torch.amp import GradScaler


@OPTIM_WRAPPERS.register_module()
class YOLOV2AmpOptimWrapper(AmpOptimWrapper):
    """MMEngine's ``AmpOptimWrapper``, which also runs where there is no accelerator.

    On an accelerator it is ``AmpOptimWrapper`` itself: float16 with a gradient scaler by
    default. On a CPU the forward pass runs under bfloat16 autocast, whose exponent range is
    float32's, so that no scaler is needed; it pays off with AVX512-BF16 or AMX. Weights,
    gradients and optimizer state stay float32, and a run may go on on the other device.

    Args:
        loss_scale (str | float | dict): As ``AmpOptimWrapper`` has it; unused on a CPU.
            Defaults to 'dynamic'.
        dtype (str | torch.dtype, optional): The type to compute in. Defaults to None: float16
            on an accelerator, bfloat16 on a CPU.
        use_fsdp (bool): As ``AmpOptimWrapper`` has it; unused on a CPU. Defaults to False.
        **kwargs: ``optimizer``, ``accumulative_counts`` and ``clip_grad`` of ``OptimWrapper``.

    Raises:
        ValueError: If ``dtype`` is anything but bfloat16 on a CPU.
    """

    def __init__(
        self,
        loss_scale: str | float | dict = 'dynamic',
        dtype: str | torch.dtype | None = None,
        use_fsdp: bool = False,
        **kwargs,
    ) -> None:
        if get_device() != 'cpu':
            super().__init__(loss_scale, dtype, use_fsdp, **kwargs)
            return
        if dtype not in (None, 'bfloat16', torch.bfloat16):
            raise ValueError(
                f'YOLOV2AmpOptimWrapper: on a CPU the dtype must be bfloat16, got {dtype!r}. '
                'Leave dtype out: it then suits the device.'
            )
        OptimWrapper.__init__(self, **kwargs)
        self.cast_dtype = torch.bfloat16
        # Switched off, a scaler passes losses, gradients and steps through unchanged.
        self.loss_scaler = GradScaler('cpu', enabled=False)
        self._scale_update_param = None

    def load_state_dict(self, state_dict: dict) -> None:
        """Load the state of optimizer and scaler, wherever it was saved.

        Args:
            state_dict (dict): What ``state_dict()`` of this or of another wrapper returned. The
                scaler's part is empty if it comes from a CPU: the scaler then starts afresh.
        """
        state_dict = dict(state_dict)
        if not state_dict.get('loss_scaler'):
            state_dict.pop('loss_scaler', None)
        super().load_state_dict(state_dict)
