from .darknet_batch_resize import DarknetBatchResize

__all__ = ['DarknetBatchResize']
