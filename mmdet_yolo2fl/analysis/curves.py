"""Precision, recall and F1 of a class over the threshold of the score."""

from typing import NamedTuple

import numpy as np

from .matches import Matches

# Where a class has no threshold of its own, having no true boxes or none found.
FALLBACK_THRESHOLD = 0.5


class Curve(NamedTuple):
    """One class; a point for every distinct score, from the highest on.

    Attributes:
        thresholds (np.ndarray): ``(K,)``; predictions count whose score is at least this.
        precision (np.ndarray): ``(K,)`` in 0..1.
        recall (np.ndarray): ``(K,)`` in 0..1; NaN without true boxes.
        f1 (np.ndarray): ``(K,)`` in 0..1, 2 TP / (2 TP + FP + FN); NaN without true boxes.
    """

    thresholds: np.ndarray
    precision: np.ndarray
    recall: np.ndarray
    f1: np.ndarray

    @property
    def best(self) -> int | None:
        """The point of the largest F1, at the highest such threshold; None if none is above 0."""
        if not len(self.f1) or not np.nanmax(self.f1, initial=0) > 0:
            return None
        return int(np.nanargmax(self.f1))


def class_curves(matches: Matches) -> list[Curve]:
    """The curve of every class."""
    counts = matches.truth_counts
    return [_curve(matches, label, count) for label, count in enumerate(counts.tolist())]


def _curve(matches: Matches, label: int, truths: int) -> Curve:
    mine = np.flatnonzero((matches.labels == label) & ~matches.ignored)
    mine = mine[np.argsort(-matches.scores[mine], kind='stable')]
    scores, right = matches.scores[mine], matches.truth[mine] >= 0
    # A threshold takes all of the same score or none.
    ends = np.flatnonzero(np.append(np.diff(scores) != 0, True)[: len(scores)])
    right, number = np.cumsum(right)[ends], ends + 1.0
    if truths == 0:
        unknown = np.full(len(ends), np.nan)
        return Curve(scores[ends], right / number, unknown, unknown)
    return Curve(scores[ends], right / number, right / truths, 2 * right / (number + truths))


def best_thresholds(curves: list[Curve]) -> np.ndarray:
    """``(C,)``, the threshold of the largest F1 of each class, or ``FALLBACK_THRESHOLD``."""
    return np.array(
        [
            FALLBACK_THRESHOLD if curve.best is None else curve.thresholds[curve.best]
            for curve in curves
        ]
    )


def thinned(curve: Curve, points: int) -> Curve:
    """At most so many points of a curve: evenly over recall and threshold, both ends, the best."""
    size = len(curve.thresholds)
    if size <= points:
        return curve
    steps = (points - 3) // 2
    chosen = [0, size - 1] + ([] if curve.best is None else [curve.best])
    # The scores fall, the recall rises.
    for values in (-curve.thresholds, curve.recall):
        if np.isfinite(values).all():
            levels = np.linspace(values[0], values[-1], steps)
            chosen.extend(np.searchsorted(values, levels).clip(max=size - 1))
    return Curve(*(values[np.unique(chosen)] for values in curve))
