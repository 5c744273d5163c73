"""How images come to the size of a network."""

from mmengine.config import Config

from .config_parts import type_name, unwrapped
from .datasets.transforms.darknet_resize import GREY


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
    resize = 'stretch'
    if step.get('letterbox', darknet):
        resize = f'letterbox: keep the ratio, centred on grey ({GREY})'
    elif step.get('keep_ratio', False):
        resize = 'keep the ratio, at the top left corner'
    return dict(resize=resize, interpolation=interpolation)
