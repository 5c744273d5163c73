"""What kind of error every false prediction is.

After Hoiem et al. ("Diagnosing Error in Object Detectors", ECCV 2012) and TIDE (Bolya et al.,
arXiv:2008.08115), whose names and IoU thresholds these are.
"""

import numpy as np

from .matches import Matches

KINDS = {
    'duplicate': 'the right class on a box that another prediction has found already',
    'class': 'on a true box of another class',
    'localization': 'the right class, but badly placed',
    'both': 'another class, and badly placed',
    'background': 'where there is nothing',
}


def error_kinds(matches: Matches, thresholds: np.ndarray) -> np.ndarray:
    """The kind of each false prediction: the first of ``KINDS`` that fits.

    With ``t`` the threshold of the IoU, and the IoU to the nearest true box that is not ignored:

    - duplicate: at least ``t`` to one of its class (which then another one has found);
    - class: at least ``t`` to one of another class;
    - localization: 0.1 to ``t``, to one of its class;
    - both: 0.1 to ``t``, to one of another class;
    - background: below 0.1.

    Args:
        matches (Matches): Of the data set.
        thresholds (np.ndarray): ``(C,)``, of the score of each class.

    Returns:
        np.ndarray: ``(N,)`` int64, position in ``KINDS``, or -1 for what is right or not counted.
    """
    pairs, number = matches.pairs, len(matches.scores)
    same = matches.labels[pairs.found] == matches.truth_labels[pairs.truth]
    own, other = np.zeros(number), np.zeros(number)
    np.maximum.at(own, pairs.found[same], pairs.iou[same])
    np.maximum.at(other, pairs.found[~same], pairs.iou[~same])
    # In float32, as the IoUs are: else 0.7 of them would lie below 0.7.
    least = np.float32(matches.iou_thr)
    kinds = np.select([own >= least, other >= least, own > 0, other > 0], [0, 1, 2, 3], 4)
    false = matches.kept(thresholds) & (matches.truth < 0)
    return np.where(false, kinds, -1)


def error_table(matches: Matches, thresholds: np.ndarray) -> dict[str, np.ndarray]:
    """Counts by class: ``(C,)`` int64 for each of ``KINDS`` (by the predicted class), ``found``
    and ``missed`` (by the true one)."""
    classes = len(matches.classes)
    kinds = error_kinds(matches, thresholds)
    right = matches.kept(thresholds) & (matches.truth >= 0)
    table = {
        kind: np.bincount(matches.labels[kinds == position], minlength=classes)
        for position, kind in enumerate(KINDS)
    }
    missed = matches.truth_labels[matches.missed(thresholds)]
    return table | dict(
        found=np.bincount(matches.labels[right], minlength=classes),
        missed=np.bincount(missed, minlength=classes),
    )
