from .atomic_checkpoint_hook import AtomicCheckpointHook
from .channels_last_hook import ChannelsLastHook
from .non_finite_loss_hook import NonFiniteLossHook
from .random_state_hook import RandomStateHook

__all__ = ['AtomicCheckpointHook', 'ChannelsLastHook', 'NonFiniteLossHook', 'RandomStateHook']
