"""A detector as plain functions of an image tensor, which exporters can follow."""

import copy
from collections.abc import Callable, Iterable

import cv2
import torch
from mmengine.dataset import pseudo_collate
from torch import Tensor, nn

from ..models.dense_heads.yolov2_head import MAX_LOG_SIZE
from ..models.necks.yolov2_neck import darknet_reorg, offset_major_reorg


def _offset_major_by_slices(x: Tensor) -> Tensor:
    return torch.cat([x[:, :, row::2, column::2] for row in (0, 1) for column in (0, 1)], 1)


def _darknet_by_slices(x: Tensor) -> Tensor:
    n, c, h, w = x.shape
    # Flattened first, or torch.export ties the sizes of its result to those of the example.
    x = _offset_major_by_slices(x.flatten(1).reshape(n, c // 4, 2 * h, 2 * w))
    return x.flatten(1).reshape(n, 4 * c, h // 2, w // 2)


# Small processors know slices, but no permutation of six dimensions.
BY_SLICES = {darknet_reorg: _darknet_by_slices, offset_major_reorg: _offset_major_by_slices}


def input_channels(model: nn.Module) -> int:
    """3 in colour, 1 in grey: of the first convolution of a ``backbone``."""
    return next(m for m in model.backbone.modules() if isinstance(m, nn.Conv2d)).in_channels


def loaded(pipeline: Callable[[dict], dict], path: str) -> dict:
    """What a test pipeline makes of an image file.

    Raises:
        ValueError: If it cannot be read.
    """
    try:
        return pipeline(dict(img_path=str(path), img_id=0))
    except (AssertionError, cv2.error) as error:  # of MMCV's loading, and of OpenCV's
        raise ValueError(f'{path}: cannot be read') from error


@torch.no_grad()
def as_inputs(detector: nn.Module, samples: Iterable[dict]) -> list[Tensor]:
    """What a detector makes of the results of its test pipeline: one ``(1, C, H, W)`` each."""
    return [
        detector.data_preprocessor(pseudo_collate([sample]), False)['inputs'] for sample in samples
    ]


class RawNetwork(nn.Module):
    """Images to the prediction map, with no tensor of more than four dimensions.

    (A pass-through in PyTorch's order, ``channel_major``, stays an operator of its own.)

    Args:
        detector (nn.Module): A ``SingleStageDetector`` with a :class:`YOLOV2Head`.
    """

    def __init__(self, detector: nn.Module) -> None:
        super().__init__()
        self.backbone = detector.backbone
        self.neck = detector.neck if detector.with_neck else nn.Identity()
        if getattr(self.neck, 'reorg', None) in BY_SLICES:
            self.neck = copy.copy(self.neck)
            self.neck.reorg = BY_SLICES[self.neck.reorg]
        self.head = detector.bbox_head

    def forward(self, images: Tensor) -> Tensor:
        """``(N, C, H, W)``, normalized, to ``(N, A*(5+C), H/S, W/S)`` in Darknet's order."""
        return self.head(self.neck(self.backbone(images)))[0]


class DecodedNetwork(RawNetwork):
    """Images to all boxes and scores, before any suppression.

    Args:
        detector (nn.Module): As of :class:`RawNetwork`.
    """

    def __init__(self, detector: nn.Module) -> None:
        super().__init__(detector)
        anchors = torch.tensor(self.head.prior_generator.base_sizes[0], dtype=torch.float32)
        self.register_buffer('anchors', anchors)  # in pixels

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Decode the map.

        Args:
            images (Tensor): ``(N, C, H, W)``, normalized; C of :func:`input_channels`.

        Returns:
            tuple[Tensor, Tensor]: Boxes ``(N, S, 4)``, corners in pixels of the input, and scores
            ``(N, C, S)`` in 0..1; S slots in the order row, column, anchor.
        """
        head, stride = self.head, float(self.head.stride)
        raw = super().forward(images)
        number, _, height, width = raw.shape
        slots = (number, height * width * head.num_anchors)
        raw = raw.permute(0, 2, 3, 1)
        raw = raw.reshape(number, height, width, head.num_anchors, head.num_attrib)
        # Rows and columns of the cells, as running sums: their number is not known yet.
        row = torch.ones_like(raw[0, :, :1, :1, :1]).cumsum(0) - 1
        column = torch.ones_like(raw[0, :1, :, :1, :1]).cumsum(1) - 1
        x = (raw[..., 0:1].sigmoid() + column) * stride
        y = (raw[..., 1:2].sigmoid() + row) * stride
        half = raw[..., 2:4].clamp(max=MAX_LOG_SIZE).exp() * (self.anchors / 2)
        center = torch.cat([x, y], -1)
        boxes = torch.cat([center - half, center + half], -1).reshape(*slots, 4)
        logits = raw[..., 5:]
        scores = logits.sigmoid() if head.use_sigmoid_cls else logits.softmax(-1)
        if not head.joint:
            scores = scores * raw[..., 4:5].sigmoid()
        return boxes, scores.reshape(*slots, head.num_classes).transpose(1, 2)
