"""Network parts, losses and task modules, registered in MMDetection's registries."""

from .backbones import Darknet19, DarknetTiny, GreyMobileNetV2
from .data_preprocessors import DarknetBatchResize
from .dense_heads import FocalSSDHead, MinedSSDHead, YOLOV2Head
from .losses import AutomatedFocalLoss, BalancedFocalLoss, EqualizedFocalLoss
from .necks import YOLOV2Neck
from .task_modules import YOLOV2AnchorGenerator, YOLOV2Assigner

__all__ = [
    'AutomatedFocalLoss',
    'BalancedFocalLoss',
    'Darknet19',
    'DarknetBatchResize',
    'DarknetTiny',
    'EqualizedFocalLoss',
    'FocalSSDHead',
    'GreyMobileNetV2',
    'MinedSSDHead',
    'YOLOV2AnchorGenerator',
    'YOLOV2Assigner',
    'YOLOV2Head',
    'YOLOV2Neck',
]
