from .darknet import Darknet19, DarknetTiny
from .mobilenet_v2 import GreyMobileNetV2

__all__ = ['Darknet19', 'DarknetTiny', 'GreyMobileNetV2']
