"""Data sets and transforms, registered in MMDetection's registries."""

from .load_image import CheckedLoadImageFromFile
from .tiny_traffic import TinyTrafficDataset, make_tiny_traffic
from .transforms import Corrupt, DarknetHSV, DarknetJitter, DarknetResize, FastMinIoURandomCrop

__all__ = [
    'CheckedLoadImageFromFile',
    'Corrupt',
    'DarknetHSV',
    'DarknetJitter',
    'DarknetResize',
    'FastMinIoURandomCrop',
    'TinyTrafficDataset',
    'make_tiny_traffic',
]
