from .focal_ssd_head import FocalSSDHead
from .yolov2_head import YOLOV2Head

__all__ = ['FocalSSDHead', 'YOLOV2Head']
