from .corrupt import Corrupt
from .darknet_hsv import DarknetHSV
from .darknet_jitter import DarknetJitter
from .darknet_resize import DarknetResize
from .fast_min_iou_random_crop import FastMinIoURandomCrop

__all__ = ['Corrupt', 'DarknetHSV', 'DarknetJitter', 'DarknetResize', 'FastMinIoURandomCrop']
