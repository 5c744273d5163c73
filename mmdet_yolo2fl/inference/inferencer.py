"""MMDetection's ``DetInferencer``, with a verified checkpoint and the right names."""

import warnings
from collections.abc import Sequence
from copy import deepcopy
from pathlib import Path

from mmdet.apis import DetInferencer
from mmdet.registry import DATASETS
from mmengine.config import Config
from torch import nn

from ..checkpoints import load_only_weights, verify_checkpoint
from ..config_parts import type_name, unwrapped
from ..detector import check_state_fits


class _Inferencer(DetInferencer):
    """Takes the names of the classes from the config where the checkpoint has none."""

    def _load_weights_to_model(self, model: nn.Module, checkpoint: dict, cfg: Config) -> None:
        if 'state_dict' not in checkpoint:  # the weights alone
            checkpoint = dict(state_dict=checkpoint)
        meta = checkpoint.setdefault('meta', {})
        if 'dataset_meta' not in meta and 'CLASSES' not in meta:
            dataset = deepcopy(cfg.test_dataloader.dataset)
            dataset['lazy_init'] = True  # for its names, not for its images
            meta['dataset_meta'] = dict(DATASETS.build(dataset).metainfo)
        with warnings.catch_warnings():
            warnings.filterwarnings('ignore', message='palette does not exist')
            super()._load_weights_to_model(model, checkpoint, cfg)
        # MMEngine only warns of these, and the predictions would be random.
        check_state_fits(model, checkpoint['state_dict'], f'the checkpoint for {cfg.filename}')


def _color_type(step: dict) -> str:
    return step.get('color_type', 'color') if 'LoadImage' in type_name(step) else ''


def reading_flag(cfg: Config, split: str = 'test') -> str:
    """The ``flag`` of ``mmcv.imread`` by which a config's test set reads its images.

    Args:
        cfg (Config): Of a detector, with its ``test_dataloader``.
        split (str): Of another data loader. Defaults to 'test'.

    Returns:
        str: 'unchanged' if its pipeline reads so; 'color_ignore_orientation' if it leaves EXIF's
        rotation alone; else 'color'.
    """
    steps = unwrapped(cfg[f'{split}_dataloader'].dataset).get('pipeline') or []
    types = {_color_type(step) for step in steps}
    if 'unchanged' in types:
        return 'unchanged'
    turned = types.isdisjoint(('color_ignore_orientation', 'grayscale_ignore_orientation'))
    return 'color' if turned else 'color_ignore_orientation'


def with_grey_arrays(pipeline: Sequence[dict]) -> list[dict]:
    """Where images are loaded in grey, frames and arrays, which are in colour, become so too."""
    steps = []
    for step in pipeline:
        steps.append(step)
        if _color_type(step).startswith('grayscale'):
            # By OpenCV's weights of blue, green and red; what is grey already passes.
            weights = (0.114, 0.587, 0.299)
            steps.append(dict(type='RandomGrayscale', prob=1.0, channel_weights=weights))
    return steps


def with_names(pipeline: Sequence[dict]) -> list[dict]:
    """The types of the steps up to the one that loads as names, as DetInferencer looks for them."""
    kinds = [type_name(step) for step in pipeline]
    end = kinds.index('LoadImageFromFile') + 1 if 'LoadImageFromFile' in kinds else 0
    return [
        dict(step, type=kind) if number < end and isinstance(step['type'], type) else step
        for number, (step, kind) in enumerate(zip(pipeline, kinds))
    ]


def load_inferencer(
    cfg: Config, checkpoint: str | Path, device: str | None = None
) -> DetInferencer:
    """A ``DetInferencer`` for a config and a checkpoint.

    Where the checkpoint does not name its classes, those of the config's test set are taken
    (``DetInferencer`` itself takes COCO's).

    Args:
        cfg (Config): Of a detector, with its ``test_dataloader``.
        checkpoint (str | Path): File or address; see ``checkpoints.verify_checkpoint``.
        device (str, optional): Such as 'cuda:0'. Defaults to None: a GPU if there is one.

    Raises:
        FileNotFoundError: If there is no such checkpoint.
        ValueError: If it is refused, or if it names another number of classes than the detector
            has, or if the config lacks what predictions need.
    """
    checkpoint = verify_checkpoint(checkpoint)
    load_only_weights()
    if not cfg.get('test_dataloader'):
        raise ValueError(f'{cfg.filename}: has no test_dataloader, whose pipeline predictions need')
    cfg = deepcopy(cfg)  # which is changed here and by the inferencer
    cfg.setdefault('visualizer', dict(type='DetLocalVisualizer'))
    # Which looks for pipeline and classes in the outermost data set.
    cfg.test_dataloader.dataset = dataset = unwrapped(cfg.test_dataloader.dataset)
    dataset.pipeline = with_names(with_grey_arrays(dataset.get('pipeline') or []))
    inferencer = _Inferencer(cfg, str(checkpoint), device, show_progress=False)
    names = inferencer.model.dataset_meta['classes']
    number = getattr(getattr(inferencer.model, 'bbox_head', None), 'num_classes', len(names))
    if len(names) != number:
        raise ValueError(
            f'checkpoint {checkpoint}: names {len(names)} classes, but the detector of '
            f'{cfg.filename} has {number}'
        )
    return inferencer
