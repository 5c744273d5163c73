"""The images on which most goes wrong."""

import itertools

import numpy as np

from .matches import Matches

REASONS = {
    'missed': 'most missed',
    'false': 'most false',
    'iou': 'worst placed',
}


def image_table(matches: Matches, thresholds: np.ndarray) -> dict[str, np.ndarray]:
    """Count by image.

    Args:
        matches (Matches): Of the data set.
        thresholds (np.ndarray): ``(C,)``, of the score of each class.

    Returns:
        dict[str, np.ndarray]: ``truths``, ``found``, ``missed``, ``false``, each ``(I,)`` int64,
        and ``iou`` ``(I,)``, the mean over the found ones, NaN without any.
    """
    kept, right = matches.kept(thresholds), matches.truth >= 0

    def count(images, weights=None):
        return np.bincount(images, weights, minlength=matches.num_images)

    found = kept & right
    number = count(matches.images[found])
    total = count(matches.images[found], np.nan_to_num(matches.iou()[found]))
    return dict(
        truths=count(matches.truth_images[~matches.truth_ignored]),
        found=number,
        missed=count(matches.truth_images[matches.missed(thresholds)]),
        false=count(matches.images[kept & ~right]),
        iou=np.where(number > 0, total / np.maximum(number, 1), np.nan),
    )


def worst_images(table: dict[str, np.ndarray], number: int) -> list[tuple[int, str]]:
    """Choose the images with the most missed, the most false, the lowest IoU, in turns.

    Args:
        table (dict): Of :func:`image_table`.
        number (int): How many images at most; none is named twice, none without an error.

    Returns:
        list[tuple[int, str]]: Image and reason, one of ``REASONS``, the reasons together.
    """
    rankings = []
    for reason in REASONS:
        key = -table[reason] if reason != 'iou' else np.nan_to_num(table[reason], nan=1.0)
        worst = np.argsort(key, kind='stable')
        limit = 0 if reason != 'iou' else 1
        rankings.append([(image, reason) for image in worst.tolist() if key[image] < limit])
    chosen: dict[int, str] = {}
    for turn in itertools.zip_longest(*rankings):
        for image, reason in filter(None, turn):
            if len(chosen) < number:
                chosen.setdefault(image, reason)
    return sorted(chosen.items(), key=lambda item: list(REASONS).index(item[1]))
