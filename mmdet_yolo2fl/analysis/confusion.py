"""Which class is taken for which."""

import numpy as np

from .matches import Matches


def confusion_matrix(matches: Matches, thresholds: np.ndarray) -> np.ndarray:
    """Count as MMDetection's ``tools/analysis_tools/confusion_matrix.py`` does.

    A prediction counts once for every true box, of whatever class, that it overlaps by
    ``iou_thr`` or more, or else in the last row (background). A true box that no prediction of its
    class overlaps so counts in the last column (background). Unlike there, ignored boxes and what
    was found on them are left out.

    Args:
        matches (Matches): Of the data set.
        thresholds (np.ndarray): ``(C,)``, of the score of each class.

    Returns:
        np.ndarray: ``(C + 1, C + 1)`` int64, rows the true class, columns the predicted one.
    """
    background = len(matches.classes)
    matrix = np.zeros((background + 1, background + 1), np.int64)
    kept = matches.kept(thresholds)
    pairs = matches.pairs
    near = (pairs.iou >= matches.iou_thr) & kept[pairs.found]
    found, truth = pairs.found[near], pairs.truth[near]
    true_class, predicted = matches.truth_labels[truth], matches.labels[found]
    np.add.at(matrix, (true_class, predicted), 1)
    alone = kept.copy()
    alone[found] = False
    np.add.at(matrix, (background, matches.labels[alone]), 1)
    missed = ~matches.truth_ignored
    missed[truth[true_class == predicted]] = False
    np.add.at(matrix, (matches.truth_labels[missed], background), 1)
    return matrix
