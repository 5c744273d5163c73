"""What training needs beyond MMEngine: hooks, an optimizer wrapper and a file backend."""

from .atomic_backend import AtomicLocalBackend
from .hooks import AtomicCheckpointHook, ChannelsLastHook, NonFiniteLossHook, RandomStateHook
from .optimizers import YOLOV2AmpOptimWrapper

__all__ = [
    'AtomicCheckpointHook',
    'AtomicLocalBackend',
    'ChannelsLastHook',
    'NonFiniteLossHook',
    'RandomStateHook',
    'YOLOV2AmpOptimWrapper',
]
