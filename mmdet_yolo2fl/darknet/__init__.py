"""Darknet's files: read, written, and as a start for training."""

from .pretrained import PretrainedDarknet
from .to_darknet import mmdet_to_darknet, resize_note
from .to_mmdet import darknet_to_mmdet

__all__ = ['PretrainedDarknet', 'darknet_to_mmdet', 'mmdet_to_darknet', 'resize_note']
