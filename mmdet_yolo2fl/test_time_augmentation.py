"""Several views of an image, whose boxes are put together: of any config."""

import warnings
from copy import deepcopy

from mmengine.config import Config, ConfigDict

from .config_parts import leaves, type_name, unwrapped
from .resizing import way_of

MODEL = dict(
    type='DetTTAModel', tta_cfg=dict(nms=dict(type='nms', iou_threshold=0.5), max_per_img=100)
)
META_KEYS = ('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor')
META_KEYS += ('flip', 'flip_direction')


def use_tta(cfg: Config) -> None:
    """Wrap the model and the test pipeline as ``tta_model`` and ``tta_pipeline`` say, or by flips.

    Warns if no view comes to its size as the test does, as where a config has changed its test
    pipeline and inherits the views of its base.

    Args:
        cfg (Config): Changed in place; its ``test_dataloader`` only.
    """
    # A config often has one dict for both loaders.
    cfg.test_dataloader = deepcopy(cfg.test_dataloader)
    dataset = unwrapped(cfg.test_dataloader.dataset)
    # The merged sample keeps the truths of the first view, so the first is the plain image.
    flips = [dict(type='RandomFlip', prob=0.0), dict(type='RandomFlip', prob=1.0)]
    pack = deepcopy(dataset.pipeline[-1])
    # Where the truths travel with the samples, as in TinyTrafficDataset, they must go on doing so.
    pack.meta_keys = tuple(dict.fromkeys((*pack.get('meta_keys', ()), *META_KEYS)))
    # Flipped behind a padding, which lies on the right, the boxes would be turned back wrongly.
    pads = ('Pad', 'FixShapeResize')
    padding = [i for i, step in enumerate(dataset.pipeline) if type_name(step) in pads]
    first = padding[0] if padding else len(dataset.pipeline) - 1
    later = [[step] for step in (*dataset.pipeline[first:-1], pack)]
    views = dict(type='TestTimeAug', transforms=[flips, *later])
    default = [*dataset.pipeline[:first], views]
    views = deepcopy(cfg.get('tta_pipeline') or default)
    sizes, of_test = _sizes(views), _sizes(dataset.pipeline)
    if of_test and not of_test & sizes:
        ours, theirs = ('; '.join(sorted(each)) for each in (sizes, of_test))
        warnings.warn(
            f'tta_pipeline resizes to {ours}, the test itself to {theirs}: '
            '--cfg-options tta_pipeline=None takes the views of the test, and their flips',
            stacklevel=2,
        )
    if 'instances' in pack.meta_keys:
        for step in _packing(views):
            step['meta_keys'] = tuple(dict.fromkeys((*step.get('meta_keys', ()), 'instances')))
    for leaf in leaves(cfg.test_dataloader.dataset):
        leaf.pipeline = deepcopy(views)
    cfg.model = ConfigDict(**cfg.get('tta_model', MODEL), module=cfg.model)


def _packing(steps) -> list[ConfigDict]:
    return [step for step in _flat(steps) if type_name(step).endswith('PackDetInputs')]


def _sizes(steps) -> set[str]:
    """Width and height of the steps that resize to one, and how they do it."""
    resizing = [step for step in _flat(steps) if 'Resize' in type_name(step)]
    return {
        f'{tuple(step["scale"])}, {way_of(step)}'
        for step in resizing
        if isinstance(step.get('scale'), (list, tuple))
    }


def _flat(steps) -> list[ConfigDict]:
    """Steps one by one, also those of several views."""
    if isinstance(steps, (list, tuple)):
        return [found for step in steps for found in _flat(step)]
    return _flat(steps['transforms']) if type_name(steps) == 'TestTimeAug' else [steps]
