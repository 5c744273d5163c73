from .focal_ssd_head import FocalSSDHead
from .mined_ssd_head import MinedSSDHead
from .yolov2_head import YOLOV2Head

__all__ = ['FocalSSDHead', 'MinedSSDHead', 'YOLOV2Head']
