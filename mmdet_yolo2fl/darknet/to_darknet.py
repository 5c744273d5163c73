"""From an MMDetection config and checkpoint to a Darknet ``.cfg`` and ``.weights``."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from mmdet.registry import DATASETS
from mmengine.config import Config
from mmengine.registry import DefaultScope
from torch import nn

from ..config_parts import unwrapped
from ..detector import load_detector
from ..models.backbones.darknet import Darknet19, DarknetTiny
from ..models.dense_heads import YOLOV2Head
from ..models.necks import YOLOV2Neck
from ..models.necks.yolov2_neck import (
    channel_major_reorg,
    darknet_reorg,
    offset_major_reorg,
)
from ..resizing import how_resized, size_at_test
from ..whole_files import write_all
from .cfg import cfg_text
from .network import MIN_STAGES, stride_of
from .weights import EPSILON, Header, convolution_bytes, convolutions

# What OpenCV adds to the variance.
OPENCV_EPSILON = 1e-6


def mmdet_to_darknet(
    config: Config | str | Path,
    checkpoint: str | Path,
    out: str | Path,
    opencv_thresh: float | None = None,
    input_size: tuple[int, int] | None = None,
    name: str | None = None,
) -> tuple[Path, Path, Path]:
    """Convert a YOLOv2 of this project.

    Args:
        config (Config | str | Path): Its config.
        checkpoint (str | Path): Its checkpoint.
        out (str | Path): Folder for the results; all are written whole or not at all.
        opencv_thresh (float, optional): Write the files for OpenCV's DNN module: this score
            threshold as ``thresh``, which it takes for one, and variances that make up for its
            smaller epsilon. By default ``thresh`` is that of training, as Darknet has it.
        input_size (tuple[int, int], optional): (width, height) in pixels, multiples of the stride.
            Defaults to the size of the test pipeline.
        name (str, optional): Of the files. Defaults to the config's; a ``Config`` that was not read
            from a file needs one.

    Returns:
        tuple[Path, Path, Path]: The ``.cfg``, ``.weights`` and ``.names``.

    Raises:
        FileNotFoundError: If a file is missing.
        ValueError: If Darknet cannot express the detector, or the checkpoint does not fit.
    """
    if not isinstance(config, Config):
        if not Path(config).is_file():
            raise FileNotFoundError(f'{config}: there is no such config file')
        config = Config.fromfile(config)
    if not name and not config.filename:
        raise ValueError('mmdet_to_darknet: a config that was not read from a file needs a name')
    name = name or Path(config.filename).stem
    model, meta = load_detector(config, checkpoint)
    _check_detector(model, config)
    if model.bbox_head.joint:
        _set_objectness_to_one(model.bbox_head)
    net = _net_options(model, config, input_size)
    region = _region_options(model, config)
    epsilon = EPSILON
    if opencv_thresh is not None:
        if model.bbox_head.use_sigmoid_cls:
            raise ValueError("OpenCV's DNN module knows [region] with softmax=1 only")
        if model.with_neck and model.neck.reorg is not darknet_reorg:
            raise ValueError("OpenCV's DNN module knows [reorg] only: the neck's reorg='darknet'")
        region['thresh'] = opencv_thresh
        # What Darknet has a default for, and OpenCV has none.
        region['num'] = model.bbox_head.num_anchors
        epsilon = OPENCV_EPSILON
    sections = [('net', net), *_layers(model), ('region', region)]
    version = meta.get('darknet_version', [0, 2, 0])
    header = Header(*version, seen=int(model.bbox_head.seen))
    permuted = _permuted(model)
    weights = b''.join(
        [bytes(header)]
        + [
            convolution_bytes(layer, epsilon, permuted.get(layer.name))
            for layer in convolutions(model)
        ]
    )
    names = ''.join(f'{one}\n' for one in _names(model, config, meta))
    paths = tuple(Path(out, f'{name}.{kind}') for kind in ('cfg', 'weights', 'names'))
    contents = (cfg_text(sections).encode(), weights, names.encode())
    write_all(dict(zip(paths, contents)))
    return paths


@torch.no_grad()
def _set_objectness_to_one(head: nn.Module) -> None:
    """Darknet multiplies the class by an objectness, which a joint head has never trained."""
    layer = head.conv_pred
    layer.weight.view(head.num_anchors, head.num_attrib, -1)[:, 4] = 0
    # Its sigmoid is 1, to the last bit of float32.
    layer.bias.view(head.num_anchors, head.num_attrib)[:, 4] = 100


def _check_detector(model: nn.Module, config: Config) -> None:
    """Refuse what Darknet cannot express, with the reason."""
    backbone, head = getattr(model, 'backbone', None), getattr(model, 'bbox_head', None)
    neck = model.neck if getattr(model, 'with_neck', False) else None
    for what, part, kinds in (
        ('backbone', backbone, (Darknet19, DarknetTiny)),
        ('bbox_head', head, (YOLOV2Head,)),
        ('neck', neck, (YOLOV2Neck, type(None))),
    ):
        if not isinstance(part, kinds):
            expected = ' or '.join(kind.__name__ for kind in kinds)
            raise ValueError(
                f'{config.filename}: the {what} is a {type(part).__name__}; a Darknet cfg is '
                f'written for {expected}'
            )
    given = config.get('darknet', {}).get('region', {})
    if head.use_sigmoid_cls and str(given.get('softmax', 0 if given else 1)) != '0':
        raise ValueError(
            f'{config.filename}: the head tells each class by a sigmoid of its own (loss_cls with '
            "use_sigmoid=True). OpenCV and AlexeyAB's fork have a softmax only; Darknet's master "
            'reads such weights with softmax=0: for it, write '
            'darknet=dict(region=dict(softmax=0)) into the config'
        )
    if head.use_sigmoid_cls and neck is not None and neck.reorg is not darknet_reorg:
        raise ValueError(
            f"{config.filename}: neck.reorg is not 'darknet': that becomes a [reorg3d], which only "
            "AlexeyAB's fork has, and the head's sigmoids only Darknet's master reads. Train with "
            "reorg='darknet', or with a softmax"
        )
    # What lies behind the last of out_indices is not built.
    last = len(backbone.stages) - 1
    expected = (last,) if neck is None else (last - 1, last)
    if backbone.out_indices[-len(expected) :] != expected:
        raise ValueError(
            f'{config.filename}: out_indices={backbone.out_indices} of the backbone; the layers '
            f'of a Darknet cfg end with {expected}'
        )
    stages = backbone.arch[: last + 1]
    stride = stride_of(stages)
    if len(stages) < MIN_STAGES:
        raise ValueError(
            f'{config.filename}: out_indices={backbone.out_indices} of the backbone end with a map '
            f'of stride {stride}; a Darknet cfg is written for 16 and 32'
        )
    if head.stride != stride:
        raise ValueError(
            f'{config.filename}: anchors of stride {head.stride}, and a map of stride {stride}'
        )
    preprocessor = model.data_preprocessor
    if not preprocessor._enable_normalize:
        raise ValueError(
            f'{config.filename}: the data_preprocessor has no mean and std; Darknet divides by 255'
        )
    mean, std = (getattr(preprocessor, key).flatten() for key in ('mean', 'std'))
    channels = convolutions(model)[0].conv.in_channels
    if (mean != 0).any() or (std != 255).any():
        raise ValueError(
            f'{config.filename}: the data_preprocessor has mean {mean.tolist()} and std '
            f'{std.tolist()}; Darknet divides by 255 and subtracts nothing'
        )
    if channels == 3 and not preprocessor._channel_conversion:
        raise ValueError(
            f'{config.filename}: the network sees blue first (bgr_to_rgb=False in the '
            'data_preprocessor); Darknet gives it red first'
        )


def _net_options(model: nn.Module, config: Config, size: tuple[int, int] | None) -> dict:
    size = size or size_at_test(config)
    if size is None:
        raise ValueError(
            f'{config.filename}: the test pipeline has no Resize with a scale: give the input size'
        )
    stride = model.bbox_head.stride
    if any(side <= 0 or side % stride for side in size):
        raise ValueError(f'the input size must be a multiple of {stride}, got {size[0]}x{size[1]}')
    own = dict(
        width=size[0],
        height=size[1],
        channels=convolutions(model)[0].conv.in_channels,
    )
    given = config.get('darknet', {}).get('net')
    return _merged(own, given, dict(batch=1, subdivisions=1))


def resize_note(config: Config) -> str:
    """What a cfg cannot say: how images must come to its size; a line for the user."""
    how = dict(resize='unknown')
    if _test_dataset(config).get('pipeline'):
        how = how_resized(config)
    text = f'Images come to the input size thus: {how["resize"]}. '
    if how['resize'] == 'stretch':
        text += "So do OpenCV and AlexeyAB's fork; Darknet's master puts them into a letterbox. "
        text += 'Back: tools/darknet2mmdet.py --resize stretch'
        return text + ' --interpolation opencv' * (how['interpolation'] != 'darknet')
    return text + "Darknet's master has a letterbox; OpenCV and AlexeyAB's fork stretch"


def _test_dataset(config: Config) -> Mapping:
    """Without what is wrapped around it; empty if there is none."""
    return unwrapped((config.get('test_dataloader') or {}).get('dataset', {}))


def _region_options(model: nn.Module, config: Config) -> dict:
    head, assigner = model.bbox_head, model.bbox_head.assigner
    own = dict(
        anchors=[side for anchor in head.prior_generator.anchors for side in anchor],
        bias_match=int(assigner.bias_match),
        classes=head.num_classes,
        coords=4,
        num=head.num_anchors,
        softmax=int(not head.use_sigmoid_cls),
        rescore=int(head.rescore),
        object_scale=head.object_scale,
        noobject_scale=head.noobject_scale,
        class_scale=head.class_scale,
        coord_scale=head.coord_scale,
        thresh=assigner.ignore_iou_thr,
    )
    given = config.get('darknet', {}).get('region')
    return _merged(own, given, dict(jitter=0.3, absolute=1, random=1))


# What Darknet takes for an option that a cfg leaves out.
DEFAULTS = dict(
    coords=4, num=1, softmax=0, rescore=0, bias_match=0, thresh=0.5,
    object_scale=1, noobject_scale=1, class_scale=1, coord_scale=1,
)  # fmt: skip


def _merged(own: Mapping[str, Any], given: Mapping[str, str] | None, other: Mapping) -> dict:
    """What the model says, and the options that only training reads.

    An option of the cfg that the model came from stays as it was written there, if it still
    means the same.

    Args:
        own (Mapping): What the model says.
        given (Mapping | None): The options of that cfg, if there was one.
        other (Mapping): Stands in where there was none.
    """
    merged = dict(other if given is None else given)
    for key, value in own.items():
        written = merged.get(key, DEFAULTS.get(key) if given is not None else None)
        if written is None or _numbers(written) != _numbers(value):
            merged[key] = _written(value)
    return merged


def _numbers(value: Any) -> list[float] | None:
    if not isinstance(value, str):
        return [float(item) for item in (value if isinstance(value, list) else [value])]
    try:
        return [float(item) for item in value.split(',') if item]
    except ValueError:
        return None


def _written(value: Any) -> str:
    """Numbers with commas between them, as short as possible without a loss."""
    values = value if isinstance(value, list) else [value]
    return ','.join(str(int(item)) if item == int(item) else repr(item) for item in values)


def _layers(model: nn.Module) -> list[tuple[str, dict]]:
    """The sections between [net] and [region]."""
    backbone, head = model.backbone, model.bbox_head
    neck = model.neck if model.with_neck else None
    layers: list[tuple[str, dict]] = []
    fine_layer = 0
    for number, stage in enumerate(backbone.stages):
        pool_stride = backbone.arch[number][0]
        if pool_stride:
            layers.append(('maxpool', dict(size=2, stride=pool_stride)))
        layers += [_convolution(module) for module in stage if hasattr(module, 'conv')]
        if number == len(backbone.stages) - 2:
            fine_layer = len(layers) - 1
    if neck is not None:
        layers += [_convolution(module) for module in neck.coarse]
        coarse_layer = len(layers) - 1
        layers.append(('route', dict(layers=fine_layer - len(layers))))
        if hasattr(neck.fine, 'conv'):
            layers.append(_convolution(neck.fine))
        layers.append(('reorg' if neck.reorg is darknet_reorg else 'reorg3d', dict(stride=2)))
        layers.append(('route', dict(layers=f'-1,{coarse_layer - len(layers)}')))
    layers += [_convolution(module) for module in head.convs]
    last = head.conv_pred
    layers.append(
        (
            'convolutional',
            dict(size=1, stride=1, pad=1, filters=last.out_channels, activation='linear'),
        )
    )
    return layers


def _convolution(module: nn.Module) -> tuple[str, dict]:
    conv = module.conv
    options = dict(batch_normalize=1) if module.with_norm else {}
    options.update(
        filters=conv.out_channels,
        size=conv.kernel_size[0],
        stride=1,
        pad=1,
        activation=_activation(module),
    )
    return 'convolutional', options


def _activation(module: nn.Module) -> str:
    if not module.with_activation:
        return 'linear'
    layer = module.activate
    if isinstance(layer, nn.LeakyReLU) and layer.negative_slope == 0.1:
        return 'leaky'
    if isinstance(layer, nn.ReLU):
        return 'relu'
    raise ValueError(f'{layer}: Darknet knows leaky ReLU of slope 0.1, ReLU and none')


def _permuted(model: nn.Module) -> dict[str, torch.Tensor]:
    """PyTorch's order of the pass-through is [reorg3d]'s, if the next convolution is permuted."""
    neck = model.neck if model.with_neck else None
    if neck is None or neck.reorg is not channel_major_reorg:
        return {}
    first = next(layer.name for layer in convolutions(model) if layer.name.startswith('bbox_head.'))
    # Number the fine channels in PyTorch's order; [reorg3d] then shows which stands where.
    fine = neck.num_out_channels - convolutions(model.backbone)[-1].conv.out_channels
    if len(neck.coarse):
        fine = neck.num_out_channels - neck.coarse[-1].conv.out_channels
    numbers = torch.arange(fine).view(1, fine // 4, 2, 2)
    order = offset_major_reorg(numbers).flatten()
    return {first: torch.cat([order, torch.arange(fine, neck.num_out_channels)])}


def _names(model: nn.Module, config: Config, meta: Mapping) -> list[str]:
    """Class names of the checkpoint, else of the config's data set, else numbers."""
    number = model.bbox_head.num_classes
    dataset = _test_dataset(config)
    metainfo = dataset.get('metainfo') or {}
    if dataset.get('type'):  # whose class may have the names
        with DefaultScope.overwrite_default_scope('mmdet'):
            metainfo = DATASETS.build({**dataset, 'lazy_init': True, 'pipeline': []}).metainfo
    for source in (meta.get('dataset_meta') or {}, metainfo):
        classes = source.get('classes', source.get('CLASSES', ()))
        if len(classes) == number:
            return [' '.join(str(one).split()) for one in classes]
    return [f'class_{index}' for index in range(number)]
