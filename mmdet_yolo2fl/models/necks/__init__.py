from .yolov2_neck import YOLOV2Neck

__all__ = ['YOLOV2Neck']
