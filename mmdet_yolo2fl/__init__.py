"""YOLOv2 and the focal-loss family as parts of MMDetection.

Importing this package registers every part in MMDetection's registries, so that
``custom_imports = dict(imports=['mmdet_yolo2fl'])`` is all that a config needs.
"""

from .environment import check_environment

check_environment()

from . import darknet, datasets, engine, models  # noqa: E402

__version__ = '0.1.0'
__all__ = ['darknet', 'datasets', 'engine', 'models']
