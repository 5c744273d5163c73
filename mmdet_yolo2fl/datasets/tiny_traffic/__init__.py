"""Rendered street scenes with a long tail of classes: the data set that needs no download."""

from .dataset import TinyTrafficDataset
from .make import make_tiny_traffic

__all__ = ['TinyTrafficDataset', 'make_tiny_traffic']
