"""All figures of an analysis as plain values, for the report and for programs."""

import json
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ..tables import csv_text
from ..whole_files import write_text
from .confusion import confusion_matrix
from .curves import Curve, thinned
from .errors import KINDS, error_table
from .evaluation import Evaluation, mean
from .worst_images import image_table

CURVE_POINTS = 1000


def summarize(
    evaluation: Evaluation, curves: Sequence[Curve], thresholds: np.ndarray, names: Sequence[str]
) -> dict:
    """Bring everything together.

    Args:
        evaluation (Evaluation): Of the data set.
        curves (Sequence[Curve]): Of its classes.
        thresholds (np.ndarray): ``(C,)``, of the score of each class, for what counts boxes.
        names (Sequence[str]): Of the images.

    Returns:
        dict: ``images``, ``truths``, ``ignored``, ``predictions``, ``iou_thr``, ``ap``, ``ap50``,
        ``voc_ap50``; ``classes``, ``sizes`` and ``per_image``, lists of dicts; ``confusion``, with
        the background last. AP, precision, recall, F1 in 0..1; None where there is no such value.
    """
    matches = evaluation.matches
    errors = error_table(matches, thresholds)
    classes = []
    for label, (name, curve) in enumerate(zip(matches.classes, curves)):
        best = curve.best
        at_best = [None] * 4 if best is None else [float(values[best]) for values in curve]
        classes.append(
            dict(
                name=name,
                truths=int(matches.truth_counts[label]),
                ap=_number(evaluation.ap[label]),
                ap50=_number(evaluation.ap50[label]),
                voc_ap50=_number(evaluation.voc_ap50[label]),
                **dict(zip(('best_threshold', 'precision', 'recall', 'f1'), at_best)),
                threshold=float(thresholds[label]),
                **{kind: int(counts[label]) for kind, counts in errors.items()},
                false=int(sum(errors[kind][label] for kind in KINDS)),
                ap_by_size={
                    size: _number(row['ap'][label]) for size, row in evaluation.sizes.items()
                },
                truths_by_size={
                    size: int(row['truths'][label]) for size, row in evaluation.sizes.items()
                },
            )
        )
    images = image_table(matches, thresholds)
    return dict(
        images=matches.num_images,
        truths=int(matches.truth_counts.sum()),
        ignored=int(matches.truth_ignored.sum()),
        predictions=len(matches.scores),
        iou_thr=matches.iou_thr,
        ap=_number(mean(evaluation.ap)),
        ap50=_number(mean(evaluation.ap50)),
        voc_ap50=_number(mean(evaluation.voc_ap50)),
        classes=classes,
        sizes=[
            dict(
                name=name,
                range=list(row['range']),
                truths=int(row['truths'].sum()),
                ap=_number(mean(row['ap'])),
            )
            for name, row in evaluation.sizes.items()
        ],
        confusion=confusion_matrix(matches, thresholds).tolist(),
        per_image=[
            dict(
                name=name,
                **{key: int(images[key][i]) for key in ('truths', 'found', 'missed', 'false')},
                iou=_number(images['iou'][i]),
            )
            for i, name in enumerate(names)
        ],
    )


def image_names(paths: Sequence[str], ids: Sequence) -> list[str]:
    """The files of the images, with as many folders as it takes to tell them apart; of images
    without a file their ids."""
    return [name or str(number) for name, number in zip(shortest_names(paths), ids)]


def shortest_names(paths: Sequence[str]) -> list[str]:
    """The ends of paths, with as many folders as it takes to tell them apart."""
    parts, names = [Path(path).parts for path in paths], list(paths)
    for depth in range(max(map(len, parts), default=0), 0, -1):
        shorter = ['/'.join(one[-depth:]) for one in parts]
        if len(set(shorter)) == len(set(paths)):
            names = shorter
    return names


def _number(value) -> float | None:
    return float(value) if math.isfinite(value) else None


def write_tables(folder: Path, summary: dict, curves: Sequence[Curve]) -> list[Path]:
    """Write ``summary.json``, ``classes.csv``, ``confusion_matrix.csv``, ``images.csv`` and
    ``curves.csv`` (at most 1000 points for each class), each whole or not at all."""
    classes = []
    for row in summary['classes']:
        flat = {key: value for key, value in row.items() if not isinstance(value, dict)}
        for size, value in row['ap_by_size'].items():
            flat |= {f'truths {size}': row['truths_by_size'][size], f'ap {size}': value}
        classes.append(flat)
    names = [row['name'] for row in summary['classes']]
    images = summary['per_image']
    matrix = [[name, *counts] for name, counts in zip([*names, 'background'], summary['confusion'])]
    points = [
        [name, *map(float, values)]
        for name, curve in zip(names, curves)
        for values in zip(*thinned(curve, CURVE_POINTS))
    ]
    contents = {
        'summary.json': json.dumps(summary, indent=1, allow_nan=False),
        'classes.csv': csv_text(classes[0], [row.values() for row in classes]),
        'confusion_matrix.csv': csv_text(['true class', *names, 'background'], matrix),
        'images.csv': csv_text(images[0], [row.values() for row in images]),
        'curves.csv': csv_text(['class', *Curve._fields], points),
    }
    for name, text in contents.items():
        write_text(folder / name, text)
    return [folder / name for name in contents]
