from .yolov2_anchor_generator import YOLOV2AnchorGenerator
from .yolov2_assigner import YOLOV2Assigner, YOLOV2Assignment

__all__ = ['YOLOV2AnchorGenerator', 'YOLOV2Assigner', 'YOLOV2Assignment']
