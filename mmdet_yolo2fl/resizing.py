"""How images come to the size of a network."""

from collections.abc import Mapping

from mmengine.config import Config, ConfigDict

from .config_parts import leaf_datasets, leaves, type_name, unwrapped
from .datasets.transforms.darknet_resize import GREY


def resize_to(dataset: ConfigDict, size: tuple[int, int] | None) -> None:
    """Have the pipelines of a data set, wrapped or not, make images of another size.

    Args:
        dataset (ConfigDict): Changed in place.
        size (tuple[int, int] | None): Width and height; None changes nothing.
    """
    for leaf in leaves(dataset) if size else ():
        for step in leaf.get('pipeline') or ():
            if type_name(step) == 'FixShapeResize':
                step['width'], step['height'] = size
            elif type_name(step).endswith('Resize'):
                step['scale'] = tuple(size)
            elif type_name(step) == 'Pad' and step.get('size'):
                step['size'] = tuple(size)


def size_at_test(config: Mapping) -> tuple[int, int] | None:
    """Width and height of the first step of a config's test pipeline that has one size; None if
    there is none."""
    dataset = (config.get('test_dataloader') or {}).get('dataset')
    parts = leaf_datasets(dataset) if dataset else ()
    sizes = (size_of(step) for _, pipeline in parts for step in pipeline)
    return next(filter(None, sizes), None)


def size_of(step: Mapping) -> tuple[int, int] | None:
    """Width and height that a step of a pipeline scales to; None if it scales nothing, or to
    several, as Darknet's jitter: the scale of that is the largest of multi-scale training."""
    scale = step.get('scale') or (step.get('width'), step.get('height'))
    sides = tuple(scale) if isinstance(scale, (list, tuple)) else (scale, scale)
    is_size = len(sides) == 2 and all(isinstance(side, int) for side in sides)
    return sides if is_size and 'Resize' in type_name(step) else None


def way_of(step: Mapping) -> str:
    """How a step of a pipeline brings an image to its size.

    Returns:
        str: 'stretch'; 'keep_ratio', as MMCV's ``Resize`` does it, the longer side to the longer
        one; or 'letterbox', as Darknet does it.
    """
    kind = type_name(step)
    if kind == 'DarknetJitter':
        return 'letterbox' if step.get('variant', 'master') == 'master' else 'stretch'
    if step.get('letterbox', kind == 'DarknetResize'):
        return 'letterbox'
    return 'keep_ratio' if step.get('keep_ratio', False) else 'stretch'


# For those who write programs.
IN_WORDS = dict(
    stretch='stretch',
    keep_ratio='keep the ratio, at the top left corner',
    letterbox=f'letterbox: keep the ratio, centred on grey ({GREY})',
)


def how_resized(cfg: Config) -> dict[str, str]:
    """How the test pipeline brings an image to the size of the network.

    Returns:
        dict[str, str]: ``resize``, and ``interpolation``: 'darknet' aligns the corner pixels and
        rounds nothing, all others are OpenCV's.
    """
    pipeline = unwrapped(cfg.test_dataloader.dataset).pipeline
    steps = [step for step in pipeline if 'Resize' in type_name(step)]
    if not steps:
        return dict(resize='none', interpolation='none')
    step = steps[-1]
    darknet = type_name(step) == 'DarknetResize'
    interpolation = step.get('interpolation', 'darknet' if darknet else 'bilinear')
    # DarknetResize's other choice is OpenCV's.
    interpolation = 'bilinear' if interpolation == 'opencv' else interpolation
    return dict(resize=IN_WORDS[way_of(step)], interpolation=interpolation)
