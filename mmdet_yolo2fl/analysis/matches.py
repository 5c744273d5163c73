"""Predictions and truths of a whole data set side by side, as flat arrays."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from mmdet.evaluation import bbox_overlaps

from .predictions import Predictions
from .truths import Truths

# Below it two boxes have nothing to do with each other (TIDE's t_b, arXiv:2008.08115).
BACKGROUND_IOU = 0.1


class Pairs(NamedTuple):
    """Predictions and true boxes of the same image that overlap by ``BACKGROUND_IOU`` or more.

    Attributes:
        found (np.ndarray): ``(P,)`` int64, the prediction.
        truth (np.ndarray): ``(P,)`` int64, the true box, none of the ignored ones.
        iou (np.ndarray): ``(P,)`` in 0..1.
    """

    found: np.ndarray
    truth: np.ndarray
    iou: np.ndarray


@dataclass
class Matches:
    """N predictions, M true boxes, and who has found whom.

    COCO's assignment: the predictions of a class, from the highest score on, each take the true
    box of their class with the largest IoU of those that are free. So what holds for all of them
    holds as well above any threshold of the score.

    Attributes:
        classes (list[str]): Names.
        num_images (int): Of the data set.
        iou_thr (float): From which on a box counts as found.
        images, labels, scores, boxes: See ``Predictions``.
        ignored (np.ndarray): ``(N,)`` bool, on a crowd or a difficult one: neither right nor false.
        truth (np.ndarray): ``(N,)`` int64, the true box that was found, or -1.
        truth_images, truth_labels, truth_boxes, truth_ignored: See ``Truths``.
        pairs (Pairs): What overlaps, of whichever class.
    """

    classes: list[str]
    num_images: int
    iou_thr: float
    images: np.ndarray
    labels: np.ndarray
    scores: np.ndarray
    boxes: np.ndarray
    ignored: np.ndarray
    truth: np.ndarray
    truth_images: np.ndarray
    truth_labels: np.ndarray
    truth_boxes: np.ndarray
    truth_ignored: np.ndarray
    pairs: Pairs

    @property
    def truth_counts(self) -> np.ndarray:
        """``(C,)`` int64, the true boxes of each class, without the ignored ones."""
        return np.bincount(self.truth_labels[~self.truth_ignored], minlength=len(self.classes))

    def kept(self, thresholds: np.ndarray) -> np.ndarray:
        """``(N,)`` bool: the score reaches ``thresholds`` ``(C,)`` of its class; none ignored."""
        return ~self.ignored & (self.scores >= thresholds[self.labels])

    def missed(self, thresholds: np.ndarray) -> np.ndarray:
        """``(M,)`` bool: true boxes that none of the kept predictions has found."""
        missed = ~self.truth_ignored
        missed[self.truth[self.kept(thresholds) & (self.truth >= 0)]] = False
        return missed

    def iou(self) -> np.ndarray:
        """``(N,)`` IoU of each prediction with the true box that it has found, or NaN."""
        iou = np.full(len(self.scores), np.nan)
        own = self.truth[self.pairs.found] == self.pairs.truth
        iou[self.pairs.found[own]] = self.pairs.iou[own]
        return iou


def by_image(images: np.ndarray, num_images: int) -> list[np.ndarray]:
    """For each image the positions in a flat array, in their order.

    Args:
        images (np.ndarray): ``(N,)`` int64, the image of each entry.
        num_images (int): How many there are.
    """
    counts = np.bincount(images, minlength=num_images)
    return np.split(np.argsort(images, kind='stable'), np.cumsum(counts)[:-1])


def pair(predictions: Predictions, truths: Truths) -> Pairs:
    """Find what overlaps, by MMDetection's ``bbox_overlaps``."""
    found, truth, ious = [], [], []
    images = len(truths.ids)
    for mine, here in zip(by_image(predictions.images, images), by_image(truths.images, images)):
        here = here[~truths.ignored[here]]
        iou = bbox_overlaps(predictions.boxes[mine], truths.boxes[here])
        rows, columns = np.nonzero(iou >= BACKGROUND_IOU)
        found.append(mine[rows])
        truth.append(here[columns])
        ious.append(iou[rows, columns])
    return Pairs(*map(np.concatenate, (found, truth, ious)))
