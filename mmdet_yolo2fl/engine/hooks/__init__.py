from .accumulated_scheduler_hook import AccumulatedParamSchedulerHook
from .adaptive_loss_sync_hook import AdaptiveLossSyncHook
from .atomic_checkpoint_hook import AtomicCheckpointHook
from .channels_last_hook import ChannelsLastHook
from .class_weight_hook import ClassWeightHook
from .focal_loss_analysis_hook import FocalLossAnalysisHook
from .non_finite_loss_hook import NonFiniteLossHook
from .random_state_hook import RandomStateHook

__all__ = [
    'AccumulatedParamSchedulerHook',
    'AdaptiveLossSyncHook',
    'AtomicCheckpointHook',
    'ChannelsLastHook',
    'ClassWeightHook',
    'FocalLossAnalysisHook',
    'NonFiniteLossHook',
    'RandomStateHook',
]
