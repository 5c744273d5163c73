"""How unequal a data set is: its classes, its boxes, its foreground against its background."""

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from mmdet.datasets import MultiImageMixDataset
from mmdet.models.task_modules import MaxIoUAssigner
from mmengine.structures import InstanceData
from torch import nn

from .models.dense_heads import YOLOV2Head

METHODS = ('inverse_frequency', 'effective_number')


class Objects(NamedTuple):
    """The boxes of a data set, without crowds and difficult ones, and those without an area in
    their image, which ``FilterAnnotations`` drops.

    Attributes:
        labels (np.ndarray): ``(N,)`` int64, 0..C-1.
        boxes (np.ndarray): ``(N, 4)`` float64, corners in pixels of the original.
        images (np.ndarray): ``(N,)`` int64, the image of each box.
        image_sizes (np.ndarray): ``(I, 2)`` float64, widths and heights; NaN where the
            annotations do not know them.
    """

    labels: np.ndarray
    boxes: np.ndarray
    images: np.ndarray
    image_sizes: np.ndarray


def class_columns(head: nn.Module) -> int:
    """How many columns the predictions have that a head gives to its ``loss_cls``; -1 if it does
    not tell."""
    if hasattr(head, 'fc_cls'):
        # A second stage: with a column for the background, but in Sparse R-CNN. CrowdDet has two.
        layer = head.fc_cls[0] if isinstance(head.fc_cls, nn.ModuleList) else head.fc_cls
        return layer.out_features
    if hasattr(head, 'cls_out_channels'):
        return head.cls_out_channels
    return getattr(head, 'num_classes', -1)


def annotations(dataset) -> Iterator[dict]:
    """The annotations of every image that an epoch shows, in MMDetection's format.

    ``RepeatDataset`` and ``ClassBalancedDataset`` count, as training sees them, a sampler does
    not; images are not read.

    Args:
        dataset: MMDetection's, or a wrapper of MMEngine's or MMDetection's.

    Raises:
        ValueError: If it does not tell its annotations.
    """
    while isinstance(dataset, MultiImageMixDataset):  # mosaic and the like: it hides the method
        dataset = dataset.dataset
    if not hasattr(dataset, 'get_data_info'):
        raise ValueError(
            f'{type(dataset).__name__} has no get_data_info: its annotations cannot be counted'
        )
    for index in range(len(dataset)):
        yield dataset.get_data_info(index)


def load_objects(dataset) -> Objects:
    """Collect what :func:`annotations` gives.

    Raises:
        ValueError: If there is no box in it.
    """
    labels, boxes, images, image_sizes = [], [], [], []
    for index, info in enumerate(annotations(dataset)):
        image_sizes.append((info.get('width') or np.nan, info.get('height') or np.nan))
        for instance in info['instances']:
            if not instance.get('ignore_flag') and _has_area(instance['bbox'], image_sizes[-1]):
                labels.append(instance['bbox_label'])
                boxes.append(instance['bbox'])
                images.append(index)
    if not labels:
        raise ValueError(f'{type(dataset).__name__} of {len(image_sizes)} images has no boxes')
    return Objects(
        np.array(labels, np.int64),
        np.array(boxes, float),
        np.array(images, np.int64),
        np.array(image_sizes, float).reshape(-1, 2),
    )


def _has_area(box: Sequence[float], size: tuple[float, float]) -> bool:
    """In the image; of an unknown size (NaN, which no ``min`` takes) at all."""
    left, top, right, bottom = box
    return max(0, left) < min(right, size[0]) and max(0, top) < min(bottom, size[1])


def class_counts(dataset, num_classes: int) -> np.ndarray:
    """Boxes of each class, ``(num_classes,)`` int64.

    Raises:
        ValueError: If a label is not below ``num_classes``, or there is no box.
    """
    counts = np.bincount(load_objects(dataset).labels, minlength=num_classes)
    if len(counts) > num_classes:
        raise ValueError(
            f'the data set has the label {len(counts) - 1}, but the model {num_classes} classes'
        )
    return counts


def class_weights(
    counts: Sequence[int], method: str = 'effective_number', beta: float = 0.999
) -> np.ndarray:
    """Weights of classes from their counts; the mean of those with boxes is 1.

    Args:
        counts (Sequence[int]): ``(C,)``. A class without boxes gets the largest weight of the
            others: a weight of its own would be so large that the mean left nothing to them.
        method (str): 'inverse_frequency', 1 / n; or 'effective_number',
            ``(1 - beta) / (1 - beta^n)`` (arXiv:1901.05555, equations 2 and 3), which lies
            between none (beta = 0) and the inverse frequency (beta towards 1).
        beta (float): In [0, 1). The paper tries 0.9 to 0.9999. Defaults to 0.999.

    Returns:
        np.ndarray: ``(C,)`` float64. Can exceed 1.

    Raises:
        ValueError: If an argument is out of its range.
    """
    counts = np.asarray(counts, float)
    if counts.ndim != 1 or not len(counts) or not (counts >= 0).all():
        raise ValueError(f'counts must be a list of numbers >= 0, got {counts.tolist()}')
    if method not in METHODS:
        raise ValueError(f'method must be one of {METHODS}, got {method!r}')
    if not 0 <= beta < 1:
        raise ValueError(f'beta must lie in [0, 1), got {beta}')
    present = counts > 0
    if not present.any():
        return np.ones_like(counts)
    counts = counts.clip(min=1)
    if method == 'inverse_frequency' or beta == 0:
        weights = 1 / counts if method == 'inverse_frequency' else np.ones_like(counts)
    else:
        weights = (1 - beta) / -np.expm1(counts * np.log(beta))
    weights[~present] = weights[present].max()
    return weights / weights[present].mean()


def suggested_alpha(weights: Sequence[float], alpha: float = 0.25) -> np.ndarray:
    """An alpha for each class whose odds are those of ``alpha`` times the weight of the class.

    alpha / (1 - alpha) is what an object weighs against the background; a weight of 2 doubles
    that, and the result stays below 1.

    Args:
        weights (Sequence[float]): ``(C,)``, of :func:`class_weights`.
        alpha (float): Of a class of weight 1, in (0, 1). Defaults to 0.25, RetinaNet's.

    Returns:
        np.ndarray: ``(C,)`` in (0, 1).
    """
    positive = np.asarray(weights, float) * alpha
    return positive / (positive + 1 - alpha)


def scaled_boxes(objects: Objects, scale: tuple[int, int], way: str) -> np.ndarray:
    """The boxes at the input size, ``(N, 4)`` corners in pixels.

    Those of images of unknown size are left as they are.

    Args:
        objects (Objects): The boxes.
        scale (tuple[int, int]): Width and height that the images are resized to, or fitted into.
        way (str): Of ``anchor_clusters.resize_step``.
    """
    image_sizes = objects.image_sizes
    if way == 'letterbox':
        factor = (np.asarray(scale, float) / image_sizes).min(1, keepdims=True)
    elif way == 'keep_ratio':
        long, short = max(scale), min(scale)
        factor = np.minimum(long / image_sizes.max(1), short / image_sizes.min(1))[:, None]
    else:
        factor = np.asarray(scale, float) / image_sizes
    factor = np.broadcast_to(np.nan_to_num(factor, nan=1.0), image_sizes.shape)
    return objects.boxes * np.tile(factor, 2)[objects.images]


def count_priors(detector, input_size: tuple[int, int]) -> int | None:
    """Predictions that the detector makes on an image: anchors, points or queries.

    Args:
        detector (nn.Module): MMDetection's, with a ``bbox_head`` or, of two stages, ``rpn_head``.
        input_size (tuple[int, int]): Width and height in pixels.

    Returns:
        int | None: None if it has neither a ``prior_generator`` nor ``num_queries``.
    """
    generator = getattr(_dense_head(detector), 'prior_generator', None)
    if generator is None:
        return getattr(detector, 'num_queries', None)
    maps = _map_sizes(generator, input_size)
    return sum(base * h * w for base, (h, w) in zip(generator.num_base_priors, maps))


def mean_positives(
    detector, objects: Objects, boxes: Sequence[np.ndarray], input_size: tuple[int, int]
) -> float | None:
    """Positive predictions of an image, where the assignment does not hang on predictions.

    Args:
        detector (nn.Module): With ``MaxIoUAssigner``, or with :class:`YOLOV2Head`, which gives
            each object one (None if its assigner may give more).
        objects (Objects): The boxes.
        boxes (Sequence[np.ndarray]): ``(n, 4)`` corners at the input size of the images to look
            at.
        input_size (tuple[int, int]): Width and height in pixels.

    Returns:
        float | None: None for all other assigners.
    """
    head = _dense_head(detector)
    if isinstance(head, YOLOV2Head):
        if head.assigner.anchors_per_truth > 1:
            return None
        return len(objects.labels) / len(objects.image_sizes)
    if not isinstance(getattr(head, 'assigner', None), MaxIoUAssigner):
        return None
    priors = head.prior_generator.grid_priors(
        _map_sizes(head.prior_generator, input_size), device='cpu'
    )
    priors = InstanceData(priors=torch.cat([getattr(p, 'tensor', p) for p in priors]))
    positives = 0
    for corners in boxes:
        corners = torch.as_tensor(corners, dtype=torch.float32).reshape(-1, 4)
        truth = InstanceData(bboxes=corners, labels=torch.zeros(len(corners), dtype=torch.long))
        positives += int((head.assigner.assign(priors, truth).gt_inds > 0).sum())
    return positives / max(1, len(boxes))


def _dense_head(detector):
    return getattr(detector, 'bbox_head', None) or getattr(detector, 'rpn_head', None)


def _map_sizes(generator, input_size: tuple[int, int]) -> list[tuple[int, int]]:
    width, height = input_size
    return [(math.ceil(height / s[1]), math.ceil(width / s[0])) for s in generator.strides]
