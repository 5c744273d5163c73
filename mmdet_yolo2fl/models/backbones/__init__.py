from .darknet import Darknet19, DarknetTiny

__all__ = ['Darknet19', 'DarknetTiny']
