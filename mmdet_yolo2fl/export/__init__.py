from .check import Comparison, compare, session
from .description import check_description, describe, suppression_iou
from .formats import export_onnx, export_onnx_with_nms, export_torch, load_yolov2
from .networks import DecodedNetwork, RawNetwork, as_inputs, input_channels, loaded

__all__ = [
    'Comparison',
    'DecodedNetwork',
    'RawNetwork',
    'as_inputs',
    'check_description',
    'compare',
    'describe',
    'export_onnx',
    'export_onnx_with_nms',
    'export_torch',
    'input_channels',
    'load_yolov2',
    'loaded',
    'session',
    'suppression_iou',
]
