"""Data sets and transforms, registered in MMDetection's registries."""

from .load_image import CheckedLoadImageFromFile
from .tiny_traffic import TinyTrafficDataset, make_tiny_traffic

__all__ = ['CheckedLoadImageFromFile', 'TinyTrafficDataset', 'make_tiny_traffic']
