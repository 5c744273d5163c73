"""Several views of an image, whose boxes are put together: of any config."""

from copy import deepcopy

from mmengine.config import Config, ConfigDict

MODEL = dict(
    type='DetTTAModel', tta_cfg=dict(nms=dict(type='nms', iou_threshold=0.5), max_per_img=100)
)
META_KEYS = ('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor')
META_KEYS += ('flip', 'flip_direction')


def unwrapped(dataset: ConfigDict) -> ConfigDict:
    """The config of a data set without those that are wrapped around it."""
    while 'dataset' in dataset:
        dataset = dataset['dataset']
    return dataset


def use_tta(cfg: Config) -> None:
    """Wrap the model and the test pipeline as ``tta_model`` and ``tta_pipeline`` say, or by flips.

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
    default = [*dataset.pipeline[:-1], dict(type='TestTimeAug', transforms=[flips, [pack]])]
    dataset.pipeline = deepcopy(cfg.get('tta_pipeline', default))
    if 'instances' in pack.meta_keys:
        for step in _packing(dataset.pipeline):
            step['meta_keys'] = tuple(dict.fromkeys((*step.get('meta_keys', ()), 'instances')))
    cfg.model = ConfigDict(**cfg.get('tta_model', MODEL), module=cfg.model)


def _packing(steps) -> list[ConfigDict]:
    """The steps that pack, also of the ends of several views."""
    if isinstance(steps, (list, tuple)):
        return [found for step in steps for found in _packing(step)]
    if steps['type'] == 'TestTimeAug':
        return _packing(steps['transforms'])
    return [steps] if str(steps['type']).endswith('PackDetInputs') else []
