"""What MMEngine logged while it trained."""

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from ..scalars import SCALARS, is_metric, read_scalars

# Means over classes and sizes, such as coco/bbox_mAP, coco/bbox_mAP_50, pascal_voc/mAP, AP50.
MAIN_METRIC = re.compile(r'/(\w+_)?(mAP|mAP_50|mAP_75|AP\d\d)$')


def read_training_log(folder: Path) -> tuple[list[dict], list[dict]]:
    """Read every ``scalars.json`` of a work directory.

    What a resumed run repeated counts as it was the second time; a run started anew in the same
    folder replaces the former one.

    Args:
        folder (Path): The work directory.

    Returns:
        tuple[list[dict], list[dict]]: Rows of training (``step`` in iterations, ``lr``, losses,
        ...) and of validation (``step`` in epochs, or in iterations where the run counts those;
        metrics with a ``/`` in their names), each by ascending ``step``. Empty where there is none.
    """
    training, validation = [], []
    for file in sorted(folder.glob(SCALARS)):
        rows = list(_by_iteration(read_scalars(file)))
        new = [row for row in rows if 'iter' in row or 'lr' in row]
        tests = [row for row in rows if any(map(is_metric, row)) and row not in new]
        if new:
            training = [row for row in training if row['step'] < new[0]['step']]
            if not training:
                validation = []
        if tests:
            validation = [row for row in validation if row['step'] < tests[0]['step']]
        training += new
        validation += tests
    return training, validation


def _by_iteration(rows: Iterable[dict]) -> Iterator[dict]:
    """With a step for the validations of a loop of iterations, which MMEngine logs at epoch 0."""
    step = 0
    for row in rows:
        if 'iter' in row:
            step = row['step']
        yield row | dict(step=step) if any(map(is_metric, row)) and row['step'] == 0 else row


def series(rows: list[dict], keys: list[str]) -> dict[str, tuple[list, list]]:
    """Steps and values of each key, where it has a number."""
    return {
        key: (
            [row['step'] for row in rows if isinstance(row.get(key), (int, float))],
            [row[key] for row in rows if isinstance(row.get(key), (int, float))],
        )
        for key in keys
    }


def loss_keys(rows: list[dict], most: int = 8) -> list[str]:
    """The names of the losses, the sum and then the largest ones first."""
    values = {}
    for row in rows:
        for key, value in row.items():
            if 'loss' in key and '/' not in key and isinstance(value, (int, float)):
                values[key] = max(values.get(key, 0), abs(value))
    return sorted(values, key=lambda key: (key != 'loss', -values[key]))[:most]


def metric_keys(rows: list[dict], most: int = 6) -> list[str]:
    """The names of the means; where there are none, of all metrics."""
    keys = list(dict.fromkeys(key for row in rows for key in row if '/' in key))
    return ([key for key in keys if MAIN_METRIC.search(key)] or keys)[:most]
