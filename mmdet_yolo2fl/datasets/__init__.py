"""Data sets, registered in MMDetection's registry."""

from .tiny_traffic import TinyTrafficDataset, make_tiny_traffic

__all__ = ['TinyTrafficDataset', 'make_tiny_traffic']
