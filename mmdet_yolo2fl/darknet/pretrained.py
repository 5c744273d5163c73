"""Initial weights from a Darknet file, by ``init_cfg``."""

import logging
from pathlib import Path

import numpy as np
import torch
from mmengine.logging import print_log
from mmengine.model import BaseModule, update_init_info
from mmengine.registry import WEIGHT_INITIALIZERS
from torch import nn

from ..models.dense_heads import YOLOV2Head
from ..models.necks import YOLOV2Neck
from .weights import convolutions, load_convolution, read_weights


@WEIGHT_INITIALIZERS.register_module()
class PretrainedDarknet:
    """Fill a network from a ``.weights`` file: ``init_cfg=dict(type='PretrainedDarknet', ...)``.

    For a backbone of this project, from a classifier (``darknet19_448.weights``), a file cut
    behind the backbone (``darknet19_448.conv.23``) or a whole detector: what follows in the file
    belongs to other layers and is left. For a detector, from the file of the same network; if
    only the number of classes or anchors differs, the last convolution keeps its random start,
    and the log says so. MMEngine calls it through ``init_weights``.

    Args:
        checkpoint (str | Path): The file.
        reset_seen (bool): Darknet's ``-clear``: count the images that training has seen from 0.
            Defaults to False.

    Raises:
        FileNotFoundError: If there is no such file (when called).
        ValueError: If it does not fit the network.
    """

    def __init__(self, checkpoint: str | Path, reset_seen: bool = False) -> None:
        self.checkpoint = Path(checkpoint).expanduser()
        self.reset_seen = reset_seen

    def __call__(self, module: nn.Module) -> None:
        """Fill ``module``, after all its parts got their usual start."""
        if isinstance(module, (YOLOV2Head, YOLOV2Neck)):
            raise ValueError(
                f'PretrainedDarknet fills backbones and whole detectors: move the init_cfg of '
                f'{type(module).__name__} there'
            )
        # MMEngine would initialize the children after their parent, and overwrite what it got.
        for child in module.children():
            if isinstance(child, BaseModule) and not child.is_init:
                child.init_weights()
        header, values = read_weights(self.checkpoint)
        layers = convolutions(module)
        head = next((child for child in module.modules() if isinstance(child, YOLOV2Head)), None)
        skipped = None
        if head is not None:
            skipped = self._check_detector(layers, values)
        start = 0
        for layer in layers[:-1] if skipped else layers:
            where = f'{self.checkpoint}: the weights of {layer.name}'
            if start + layer.size > len(values):
                raise ValueError(
                    f'{where} are the numbers {start}..{start + layer.size - 1}, and the file has '
                    f'{len(values)}: it is cut off, or belongs to a smaller network'
                    + (
                        ''
                        if head is None
                        else ". A file cut behind the backbone belongs into the backbone's init_cfg"
                    )
                )
            load_convolution(layer, values[start : start + layer.size], where)
            start += layer.size
        if head is not None and not skipped and not self.reset_seen:
            with torch.no_grad():
                head.seen.fill_(header.seen)
        left = len(values) - start
        self._say(f'{len(layers) - bool(skipped)} convolutions from {self.checkpoint}')
        if skipped:
            self._say(skipped, logging.WARNING)
        elif left:
            self._say(f'{self.checkpoint}: {left} numbers of later layers are not used')
        if hasattr(module, '_params_init_info'):
            update_init_info(module, init_info=f'PretrainedDarknet: {self.checkpoint}')

    def _check_detector(self, layers: list, values: np.ndarray) -> str | None:
        """What to say if the last convolution does not fit; an error if more does not."""
        *others, last = layers
        before = sum(layer.size for layer in others)
        left = len(values) - before
        filter_size = last.conv.in_channels + 1
        if left == last.size or left < 0:
            return None
        if left == 0:
            return (
                f'{self.checkpoint}: ends before the last convolution: {last.name} is not loaded '
                'and starts at random'
            )
        if left % filter_size:
            raise ValueError(
                f'{self.checkpoint}: has {len(values)} numbers, but this detector has '
                f'{before + last.size}, and {before} without its last convolution: the file '
                'belongs to another network'
            )
        return (
            f'{self.checkpoint}: its last convolution has {left // filter_size} filters, that of '
            f'this detector {last.conv.out_channels} (another number of classes or anchors): '
            f'{last.name} is not loaded and starts at random'
        )

    def _say(self, message: str, level: int = logging.INFO) -> None:
        print_log(f'PretrainedDarknet: {message}', logger='current', level=level)
