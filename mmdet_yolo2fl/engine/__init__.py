"""What training needs beyond MMEngine: hooks, schedules, an optimizer wrapper, a file backend."""

from .atomic_backend import AtomicLocalBackend
from .hooks import (
    AccumulatedParamSchedulerHook,
    AdaptiveLossSyncHook,
    AtomicCheckpointHook,
    ChannelsLastHook,
    ClassWeightHook,
    FocalLossAnalysisHook,
    NonFiniteLossHook,
    RandomStateHook,
)
from .optimizers import YOLOV2AmpOptimWrapper
from .schedulers import BurnInLR
from .work_dir_lock import work_dir_lock

__all__ = [
    'AccumulatedParamSchedulerHook',
    'AdaptiveLossSyncHook',
    'AtomicCheckpointHook',
    'AtomicLocalBackend',
    'BurnInLR',
    'ChannelsLastHook',
    'ClassWeightHook',
    'FocalLossAnalysisHook',
    'NonFiniteLossHook',
    'RandomStateHook',
    'YOLOV2AmpOptimWrapper',
    'work_dir_lock',
]
