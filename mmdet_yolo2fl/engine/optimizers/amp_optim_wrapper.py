"""Mixed precision on a processor as on an accelerator."""

import logging
import os
from contextlib import contextmanager

import torch
from mmdet.registry import OPTIM_WRAPPERS
from mmengine import print_log
from mmengine.device import get_device
from mmengine.optim import AmpOptimWrapper, OptimWrapper
from torch import nn

# Values of oneDNN's ONEDNN_MAX_CPU_ISA that keep it from these instructions.
_ISAS_WITHOUT_BFLOAT16 = (
    *('SSE41', 'AVX', 'AVX2', 'AVX2_VNNI', 'AVX2_VNNI_2'),
    *('AVX512_CORE', 'AVX512_CORE_VNNI'),
)


# Not in every PyTorch.
_BFLOAT16_TESTS = ('_is_avx512_bf16_supported', '_is_amx_tile_supported')


def has_fast_bfloat16() -> bool:
    """Whether the CPU multiplies in bfloat16 (AVX512-BF16 or AMX) instead of emulating it.

    Not where the environment variable ``ONEDNN_MAX_CPU_ISA`` (oneDNN, CPU dispatcher control)
    forbids it, as ``AVX512_CORE_VNNI`` does: so one gets float32 on such a CPU.
    """
    if os.environ.get('ONEDNN_MAX_CPU_ISA', '').upper() in _ISAS_WITHOUT_BFLOAT16:
        return False
    return any(getattr(torch.cpu, test, bool)() for test in _BFLOAT16_TESTS)


def _disabled_scaler():
    """PyTorch below 2.3 has the class for CUDA only; switched off, it is the same."""
    if hasattr(torch.amp, 'GradScaler'):
        return torch.amp.GradScaler('cpu', enabled=False)
    return torch.cuda.amp.GradScaler(enabled=False)


@OPTIM_WRAPPERS.register_module()
class YOLOV2AmpOptimWrapper(AmpOptimWrapper):
    """MMEngine's ``AmpOptimWrapper``, which also runs where there is no accelerator.

    On an accelerator it is ``AmpOptimWrapper`` itself: float16 with a gradient scaler by
    default. On a CPU the forward pass runs under bfloat16 autocast, whose exponent range is
    float32's, so that no scaler is needed. A CPU without AVX512-BF16 or AMX would only emulate
    bfloat16, which is slower than float32: unless ``dtype`` asks for it by name, such a run stays
    in float32 and says so, as does one on Apple's MPS, which MMEngine's autocast does not know.
    Weights, gradients and optimizer state are float32 in any case, and a run may go on on the
    other device.

    Args:
        loss_scale (str | float | dict): As ``AmpOptimWrapper`` has it; unused on a CPU.
            Defaults to 'dynamic'.
        dtype (str | torch.dtype, optional): The type to compute in. Defaults to None: float16
            on an accelerator, bfloat16 on a CPU that computes in it.
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
        device = get_device()
        if device not in ('cpu', 'mps'):
            super().__init__(loss_scale, dtype, use_fsdp, **kwargs)
            return
        if device == 'cpu' and dtype not in (None, 'bfloat16', torch.bfloat16):
            raise ValueError(
                f'YOLOV2AmpOptimWrapper: on a CPU the dtype must be bfloat16, got {dtype!r}. '
                'Leave dtype out: it then suits the device.'
            )
        OptimWrapper.__init__(self, **kwargs)
        self.cast_dtype = torch.bfloat16
        self._autocast = device == 'cpu' and (dtype is not None or has_fast_bfloat16())
        if not self._autocast:
            reason = (
                'This processor has neither AVX512-BF16 nor AMX, or may not use them: training in '
                'float32, which is faster here.'
            )
            if device == 'mps':
                reason = "MMEngine's autocast does not know Apple's MPS: training in float32."
            elif not any(hasattr(torch.cpu, test) for test in _BFLOAT16_TESTS):
                reason = (
                    f'PyTorch {torch.__version__} cannot tell whether this processor computes in '
                    "bfloat16: training in float32. optim_wrapper.dtype='bfloat16' asks for it."
                )
            print_log(
                reason,
                logger='current',
                level=logging.WARNING,
            )
        # Switched off, a scaler passes losses, gradients and steps through unchanged.
        self.loss_scaler = _disabled_scaler()
        self._scale_update_param = None

    @contextmanager
    def optim_context(self, model: nn.Module):
        """Enter autocast, and what ``OptimWrapper`` does under gradient accumulation.

        Args:
            model (nn.Module): The model to train.
        """
        if getattr(self, '_autocast', True):
            context = super().optim_context(model)
        else:
            context = OptimWrapper.optim_context(self, model)
        with context:
            yield

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
