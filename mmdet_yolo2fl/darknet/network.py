"""What a YOLOv2 cfg describes: its network, its region layer and its options."""

import math
import re
from dataclasses import dataclass
from itertools import accumulate, chain
from pathlib import Path

from ..models.backbones.darknet import Darknet19, DarknetTiny
from ..models.task_modules.yolov2_anchor_generator import LARGEST_ANCHOR
from .cfg import Section, read_cfg

# A backbone may end here at the earliest: with a map of stride 16.
MIN_STAGES = 5
MAX_SIZE = 8192
MAX_FILTERS = 65536
# Options that would change what a layer computes, or which weights it has, and their defaults.
PLAIN = dict(
    convolutional=dict(
        groups=1, dilation=1, binary=0, xnor=0, bin_output=0, flipped=0, dot=0, antialiasing=0,
        sway=0, rotate=0, stretch=0, stretch_sway=0, stride_x=1, stride_y=1, dontload=0,
        dontloadscales=0, share_index=-1000000000,
    ),
    maxpool=dict(maxpool_depth=0, antialiasing=0),
    route=dict(groups=1, group_id=0),
)  # fmt: skip
# Darknet's own short names.
SYNONYMS = dict(conv='convolutional', max='maxpool')
BACKBONES = (Darknet19, DarknetTiny)
# Behind the backbone: with pass-through, or straight to the last convolution.
WITH_PASSTHROUGH = re.compile(r'((?:c3 )*)r (c1 )?g r ((?:c3 )*)c1 ')
WITHOUT_PASSTHROUGH = re.compile(r'((?:c3 )*)c1 ')


@dataclass
class DarknetNetwork:
    """A YOLOv2 as its cfg describes it.

    Attributes:
        path (Path): The cfg.
        net (Section): Its ``[net]``.
        region (Section): Its ``[region]``.
        layers (list[Section]): What lies between them.
        convolutions (list[Section]): In the order of the weights file.
        shapes (list[tuple[int, int, int]]): For each (input channels, filters, kernel size).
        backbone (type): ``Darknet19`` or ``DarknetTiny``.
        num_stages (int): How many of its stages there are, counted from the image.
        num_coarse (int): Convolutions of the neck's coarse branch.
        passthrough (str | None): The neck's ``reorg``; None without pass-through.
        num_fine (int): Convolutions (0 or 1) before the rearrangement.
        num_head (int): Convolutions of the head but for the last.
        batch_normalize (bool): All convolutions but the last have it, or none.
        activation (str): Of all convolutions but the last.
    """

    path: Path
    net: Section
    region: Section
    layers: list[Section]
    convolutions: list[Section]
    shapes: list[tuple[int, int, int]]
    backbone: type
    num_stages: int
    num_coarse: int
    passthrough: str | None
    num_fine: int
    num_head: int
    batch_normalize: bool
    activation: str

    @property
    def input_size(self) -> tuple[int, int]:
        """(width, height) of the input in pixels."""
        return self.net.integer('width'), self.net.integer('height')

    @property
    def stages(self) -> tuple:
        """The entries of the backbone's ``arch`` that there are."""
        return self.backbone.arch[: self.num_stages]

    @property
    def num_backbone(self) -> int:
        """Convolutions of the backbone."""
        return sum(len(convs) for _, convs in self.stages)

    @property
    def num_before_passthrough(self) -> int:
        """Convolutions of the backbone before the pass-through starts."""
        return sum(len(convs) for _, convs in self.stages[:-1])

    @property
    def stride(self) -> int:
        """Pixels of the input in a cell of the last map."""
        return stride_of(self.stages)

    @property
    def filters(self) -> list[int]:
        """Filters of every convolution."""
        return [filters for _, filters, _ in self.shapes]

    def size(self, index: int) -> int:
        """How many numbers a convolution has in the weights file."""
        in_channels, filters, kernel_size = self.shapes[index]
        normalized = self.batch_normalize and index < len(self.shapes) - 1
        return filters * (in_channels * kernel_size**2 + (4 if normalized else 1))


def stride_of(stages: tuple) -> int:
    """Pixels of the input in a cell of the map behind such entries of a backbone's ``arch``."""
    return math.prod(max(1, pool_stride) for pool_stride, _ in stages)


def read_network(path: str | Path) -> DarknetNetwork:
    """Read the cfg of a YOLOv2: yolov2, yolov2-voc, yolov2-tiny, yolov2-tiny-voc, or alike.

    Widths, anchors, classes and input size are free, and the last stages of the backbone may be
    missing, down to a map of stride 16; the order of the layers is not free.

    Args:
        path (str | Path): The cfg.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is another network, or an option has a value that makes no sense; the
            message names the file, the section and its line.
    """
    sections = read_cfg(path)
    for section in sections:
        section.name = SYNONYMS.get(section.name, section.name)
    net, layers = sections[0], sections[1:]
    if net.name not in ('net', 'network'):
        net.fail('a cfg starts with [net]')
    _check_net(net)
    for section in layers:
        _refuse_other_networks(section)
    if not layers or layers[-1].name != 'region':
        kind = 'a classifier: ' if any(layer.name == 'softmax' for layer in layers) else ''
        (layers or sections)[-1].fail(
            f'a YOLOv2 ends with [region]; this is {kind}not a detector. The weights of a '
            "classifier start a backbone: init_cfg=dict(type='PretrainedDarknet', checkpoint=...)"
        )
    region = layers.pop()
    if not layers:
        region.fail('there are no layers before it')
    tokens = [_token(layer) for layer in layers]
    backbone, num_stages = _find_backbone(layers, tokens)
    start = sum(map(len, _stage_tokens(backbone)[:num_stages]))
    rest = ''.join(token + ' ' for token in tokens[start:])
    last = layers[-1]
    passthrough, num_coarse, num_fine = None, 0, 0
    if backbone.arch[num_stages - 1][0] == 2 and (match := WITH_PASSTHROUGH.fullmatch(rest)):
        num_coarse, num_fine = len(match[1]) // 3, len(match[2] or '') // 3
        num_head = len(match[3]) // 3
        passthrough = _check_passthrough(layers, tokens, start, num_coarse, num_fine)
    elif match := WITHOUT_PASSTHROUGH.fullmatch(rest):
        num_head = len(match[1]) // 3
    else:
        (layers[start] if start < len(layers) else last).fail(
            f'behind the backbone {backbone.__name__} a YOLOv2 has 3x3 convolutions and a last '
            '1x1 convolution; or 3x3 convolutions, [route], a 1x1 convolution or none, [reorg], '
            '[route], 3x3 convolutions and the last one. Here follow: '
            + ', '.join(f'[{layer.name}]' for layer in layers[start:])
        )
    convolutions = [layer for layer in layers if layer.name == 'convolutional']
    network = DarknetNetwork(
        path=Path(path),
        net=net,
        region=region,
        layers=layers,
        convolutions=convolutions,
        shapes=[],
        backbone=backbone,
        num_stages=num_stages,
        num_coarse=num_coarse,
        passthrough=passthrough,
        num_fine=num_fine,
        num_head=num_head,
        batch_normalize=bool(convolutions[0].integer('batch_normalize', 0)),
        activation=convolutions[0].options.get('activation', 'logistic'),
    )
    _check_size(network)
    _check_convolutions(network)
    network.shapes = _shapes(network)
    _check_region(network)
    return network


def _check_size(network: DarknetNetwork) -> None:
    for key in ('width', 'height'):
        value = network.net.integer(key, at_least=network.stride)
        if value % network.stride or value > MAX_SIZE:
            network.net.fail(f'must be a multiple of {network.stride}, at most {MAX_SIZE}', key)


def _check_net(net: Section) -> None:
    if net.integer('channels', 3) not in (1, 3):
        net.fail('images have 3 channels, or 1', 'channels')


def _refuse_other_networks(section: Section) -> None:
    if section.name in ('yolo', 'Gaussian_yolo'):
        section.fail('a YOLOv3 or later; this project knows the [region] layer of YOLOv2')
    if section.name == 'detection':
        section.fail('a YOLOv1; this project knows the [region] layer of YOLOv2')
    if section.name == 'region':
        for key, why in dict(
            tree='softmax trees (YOLO9000) are not supported',
            map='a map of classes belongs to softmax trees, which are not supported',
        ).items():
            if key in section.options:
                section.fail(why, key)


def _token(layer: Section) -> str:
    """A layer as a short word; checks the options that every layer of its kind shares."""
    for key, value in PLAIN.get(layer.name, {}).items():
        if layer.integer(key, value, at_least=value) != value:
            layer.fail(f'only {value}, the default, is supported', key)
    if layer.name == 'convolutional':
        size = layer.integer('size', 1, at_least=1)
        if size not in (1, 3):
            layer.fail('YOLOv2 has convolutions of size 1 and 3', 'size')
        if layer.integer('stride', 1, at_least=1) != 1:
            layer.fail('YOLOv2 has convolutions of stride 1 only', 'stride')
        padding = size // 2 if layer.integer('pad', 0) else layer.integer('padding', 0)
        if padding != size // 2:
            layer.fail('the convolution must keep the size of the map: pad=1')
        return f'c{size}'
    if layer.name == 'maxpool':
        stride = layer.integer('stride', 1, at_least=1)
        if layer.integer('size', stride, at_least=1) != 2 or stride > 2:
            layer.fail('YOLOv2 has max-pooling of size 2 and stride 1 or 2')
        for key in ('stride_x', 'stride_y'):
            if layer.integer(key, stride) != stride:
                layer.fail(f'only {stride}, the stride, is supported', key)
        if layer.integer('padding', 1) != 1:
            layer.fail('only 1, which is the default for size 2, is supported', 'padding')
        return f'm{stride}'
    if layer.name == 'route':
        return 'r'
    if layer.name in ('reorg', 'reorg3d'):
        if layer.integer('stride', 1) != 2:
            layer.fail('YOLOv2 rearranges with stride=2', 'stride')
        for key in ('reverse', 'flatten', 'extra'):
            if layer.integer(key, 0):
                layer.fail('only 0 is supported', key)
        return 'g'
    layer.fail(
        'a layer that YOLOv2 does not have; supported are convolutional, maxpool, route, reorg, '
        'reorg3d, region'
    )


def _stage_tokens(backbone: type) -> list[list[str]]:
    return [
        [f'm{pool_stride}'] * bool(pool_stride) + [f'c{size}' for size, _ in convs]
        for pool_stride, convs in backbone.arch
    ]


def _find_backbone(layers: list[Section], tokens: list[str]) -> tuple[type, int]:
    """The backbone that these layers begin with, and how many of its stages.

    Every stage but the first begins with a pooling layer, and nothing behind the backbone does.
    Fails where the longest match ends.
    """
    agreed = {}
    for backbone in BACKBONES:
        ends = list(accumulate(map(len, _stage_tokens(backbone))))
        same = [a == b for a, b in zip(tokens, chain(*_stage_tokens(backbone)))]
        agreed[backbone] = end = same.index(False) if False in same else len(same)
        ended = end == ends[-1] or not ''.join(tokens[end : end + 1]).startswith('m')
        if ended and end in ends[MIN_STAGES - 1 :]:
            return backbone, ends.index(end) + 1
    nearest = max(agreed, key=agreed.get)
    expected = list(chain(*_stage_tokens(nearest)))[agreed[nearest]]
    layer = layers[min(agreed[nearest], len(layers) - 1)]
    kind = 'convolution of size' if expected[0] == 'c' else 'max-pooling of stride'
    layer.fail(
        f'neither Darknet-19 nor the backbone of Tiny YOLOv2: {nearest.__name__} has a {kind} '
        f'{expected[1:]} as its layer {agreed[nearest]}'
    )


def _check_passthrough(layers, tokens, start, num_coarse, num_fine) -> str:
    """Where the routes lead to; the kind of rearrangement."""
    fine_route = start + num_coarse
    reorg = fine_route + num_fine + 1
    # The last layer before the last pooling: the end of the stage before the last.
    last_pool = max(i for i, token in enumerate(tokens[:start]) if token == 'm2')
    for index, expected in (
        (fine_route, [last_pool - 1]),
        (reorg + 1, [reorg, fine_route - 1]),
    ):
        route = layers[index]
        targets = [int(n) if n >= 0 else index + int(n) for n in route.numbers('layers', int)]
        if targets != expected:
            route.fail(
                f'leads to the layers {targets}, but YOLOv2 joins {expected} here (0 is the first '
                'layer behind [net])',
                'layers',
            )
    return dict(reorg='darknet', reorg3d='offset_major')[layers[reorg].name]


def _check_convolutions(network: DarknetNetwork) -> None:
    """All alike but for the last."""
    *others, last = network.convolutions
    for section in others:
        if bool(section.integer('batch_normalize', 0)) != network.batch_normalize:
            section.fail('either all convolutions but the last have batch_normalize=1, or none')
        if section.options.get('activation', 'logistic') != network.activation:
            section.fail(
                f'all convolutions but the last must have one activation, and the first has '
                f'{network.activation}',
                'activation',
            )
    if network.activation not in ACTIVATIONS:
        others[0].fail(f'must be one of {", ".join(ACTIVATIONS)}', 'activation')
    if last.integer('batch_normalize', 0):
        last.fail('the last convolution has no batch normalization', 'batch_normalize')
    if last.options.get('activation', 'logistic') != 'linear':
        last.fail('the last convolution must have activation=linear')


# Darknet's names, and MMCV's layers.
ACTIVATIONS = dict(
    leaky=dict(type='LeakyReLU', negative_slope=0.1),
    relu=dict(type='ReLU'),
    linear=None,
)


def _shapes(network: DarknetNetwork) -> list[tuple[int, int, int]]:
    shapes, channels = [], network.net.integer('channels', 3)
    end_of_coarse = network.num_backbone + network.num_coarse
    fine = end_of_coarse + network.num_fine
    last_fine = (fine if network.num_fine else network.num_before_passthrough) - 1
    for index, section in enumerate(network.convolutions):
        filters = section.integer('filters', 1, at_least=1)
        if filters > MAX_FILTERS:
            section.fail(f'must be at most {MAX_FILTERS}', 'filters')
        if network.passthrough is not None:
            if network.num_fine and index == end_of_coarse:
                channels = shapes[network.num_before_passthrough - 1][1]
            if index == fine:
                fine_channels = shapes[last_fine][1]
                if network.passthrough == 'darknet' and fine_channels % 4:
                    section.fail(
                        f'[reorg] before it needs a multiple of 4 channels, got {fine_channels}'
                    )
                channels = 4 * fine_channels + shapes[end_of_coarse - 1][1]
        shapes.append((channels, filters, section.integer('size', 1)))
        channels = filters
    return shapes


def _check_region(network: DarknetNetwork) -> None:
    region = network.region
    if region.integer('coords', 4) != 4:
        region.fail('boxes have 4 coordinates', 'coords')
    for key in ('background', 'classfix'):
        if region.options.get(key, '0') != '0':
            region.fail('is not supported', key)
    for key in ('softmax', 'rescore', 'bias_match', 'focal_loss'):
        if region.integer(key, 0) not in (0, 1):
            region.fail('must be 0 or 1', key)
    if region.integer('focal_loss', 0) and not region.integer('softmax', 0):
        region.fail('focal_loss=1 belongs to softmax=1', 'focal_loss')
    for key in ('object_scale', 'noobject_scale', 'class_scale', 'coord_scale'):
        region.number(key, 1, low=0)
    region.number('thresh', 0.5, 0, 1)
    num, classes = region.integer('num', 1, at_least=1), region.integer('classes', at_least=1)
    anchors = region.numbers('anchors')
    if len(anchors) != 2 * num:
        region.fail(f'num={num} anchors need {2 * num} numbers, got {len(anchors)}', 'anchors')
    largest = LARGEST_ANCHOR // network.stride
    if min(anchors) <= 0 or max(anchors) > largest:
        region.fail(f'must be positive and in grid cells, at most {largest}', 'anchors')
    last = network.convolutions[-1]
    filters = network.shapes[-1][1]
    if filters != num * (5 + classes):
        last.fail(
            f'the last convolution needs num * (5 + classes) = {num * (5 + classes)} filters for '
            f'[region] at line {region.line}',
            'filters',
        )
