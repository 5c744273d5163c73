from .darknet_hsv import DarknetHSV
from .darknet_jitter import DarknetJitter
from .darknet_resize import DarknetResize

__all__ = ['DarknetHSV', 'DarknetJitter', 'DarknetResize']
