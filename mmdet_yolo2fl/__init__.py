"""YOLOv2 and the focal-loss family as parts of MMDetection.

Importing this package registers every part in MMDetection's registries, so that
``custom_imports = dict(imports=['mmdet_yolo2fl'])`` is all that a config needs.
"""

from .environment import check_environment

check_environment()

from mmdet import registry  # noqa: E402

from . import darknet, datasets, engine, models  # noqa: E402
from .option_check import check_options_of  # noqa: E402

check_options_of(
    registry.MODELS,
    registry.TASK_UTILS,
    registry.DATASETS,
    registry.TRANSFORMS,
    registry.HOOKS,
    registry.OPTIM_WRAPPERS,
    registry.PARAM_SCHEDULERS,
    registry.WEIGHT_INITIALIZERS,
)

__version__ = '0.1.0'
__all__ = ['darknet', 'datasets', 'engine', 'models']
