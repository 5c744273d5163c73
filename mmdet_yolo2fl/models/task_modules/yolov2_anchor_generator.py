"""Anchors as YOLOv2 writes them: widths and heights in grid cells."""

import math
from collections.abc import Sequence

from mmdet.models.task_modules.prior_generators import YOLOAnchorGenerator
from mmdet.registry import TASK_UTILS

# The largest public anchor is 16.6 cells of 32 pixels wide. An anchor beyond this, in pixels, was
# given in pixels instead of cells.
LARGEST_ANCHOR = 2048


@TASK_UTILS.register_module()
class YOLOV2AnchorGenerator(YOLOAnchorGenerator):
    """MMDetection's ``YOLOAnchorGenerator`` for one level, with anchors in grid cells.

    Darknet's ``anchors=`` line and ``tools/cluster_anchors.py`` give them in this unit (YOLO9000,
    section 2, "Dimension Clusters"). An anchor keeps its size in cells, hence in pixels, at every
    input size.

    Args:
        anchors (Sequence[Sequence[float]]): ``(width, height)`` of each anchor in grid cells.
        stride (int | Sequence[int]): Pixels of a cell, or ``(x, y)``. Defaults to 32.

    Raises:
        ValueError: If an anchor is no pair of positive numbers, or too large for grid cells.
    """

    def __init__(
        self, anchors: Sequence[Sequence[float]], stride: int | Sequence[int] = 32
    ) -> None:
        stride = (stride, stride) if isinstance(stride, int) else tuple(stride)
        if len(stride) != 2 or min(stride) <= 0:
            raise ValueError(f'YOLOV2AnchorGenerator: stride must be positive, got {stride}')
        if not anchors:
            raise ValueError('YOLOV2AnchorGenerator: at least one anchor is needed')
        for anchor in anchors:
            if len(anchor) != 2 or not all(math.isfinite(side) and side > 0 for side in anchor):
                raise ValueError(
                    'YOLOV2AnchorGenerator: an anchor is a (width, height) of positive numbers, '
                    f'got {anchor}'
                )
            if max(anchor) * max(stride) > LARGEST_ANCHOR:
                raise ValueError(
                    f'YOLOV2AnchorGenerator: anchor {tuple(anchor)} spans more than '
                    f'{LARGEST_ANCHOR} pixels. Anchors are in cells, not pixels: divide them by '
                    f'the stride {stride}'
                )
        self.anchors = tuple(tuple(float(side) for side in anchor) for anchor in anchors)
        pixels = [(w * stride[0], h * stride[1]) for w, h in self.anchors]
        super().__init__(strides=[stride], base_sizes=[pixels])
