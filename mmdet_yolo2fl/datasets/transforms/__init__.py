from .corrupt import Corrupt
from .darknet_hsv import DarknetHSV
from .darknet_jitter import DarknetJitter
from .darknet_resize import DarknetResize

__all__ = ['Corrupt', 'DarknetHSV', 'DarknetJitter', 'DarknetResize']
