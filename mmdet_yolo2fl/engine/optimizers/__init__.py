from .amp_optim_wrapper import YOLOV2AmpOptimWrapper

__all__ = ['YOLOV2AmpOptimWrapper']
