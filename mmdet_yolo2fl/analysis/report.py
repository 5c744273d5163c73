"""The report: one HTML file that asks nobody for anything."""

import base64
from collections.abc import Sequence
from pathlib import Path

import jinja2
import numpy as np

from ..whole_files import write_text
from .curves import Curve
from .errors import KINDS
from .figures import curve_figures, training_figures
from .worst_images import REASONS

TEMPLATES = Path(__file__).parent
# Of more classes than these the matrix and the curves show some: a browser has to draw it all.
MAX_IN_MATRIX, MAX_CURVES = 100, 48


def write_report(
    path: Path,
    summary: dict,
    facts: dict[str, str],
    curves: Sequence[Curve],
    training: tuple[list[dict], list[dict]],
    pictures: Sequence[dict],
) -> None:
    """Write the report, whole or not at all.

    Args:
        path (Path): The HTML file.
        summary (dict): Of ``summarize``.
        facts (dict[str, str]): What stands in its head: config, checkpoint, data set, ...
        curves (Sequence[Curve]): Of the classes.
        training (tuple): Of ``read_training_log``.
        pictures (Sequence[dict]): Of ``picture``, with ``name``, ``reason`` and the numbers of
            ``per_image``.
    """
    classes = [row['name'] for row in summary['classes']]
    confused = np.array(summary['confusion'])[:-1, :-1]
    confused = confused.sum(0) + confused.sum(1) - 2 * confused.diagonal()
    truths = np.array([row['truths'] for row in summary['classes']])
    drawn = _largest(truths, MAX_CURVES)
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= dict(points=_points, decimals=_decimals, share=_share)
    text = environment.get_template('report.html').render(
        summary=summary,
        facts=facts,
        background=len(classes),
        in_matrix=_largest(confused, MAX_IN_MATRIX),
        drawn=drawn,
        kinds=KINDS,
        reasons=REASONS,
        pictures=pictures,
        training=_images(training_figures(*training)),
        curves=_images(
            curve_figures(
                [curves[number] for number in drawn],
                [classes[number] for number in drawn],
                summary['iou_thr'],
            )
        ),
    )
    write_text(path, text)


def _largest(values: np.ndarray, limit: int) -> list[int]:
    """The places of the largest values, from left to right."""
    return sorted(np.argsort(-values, kind='stable')[:limit].tolist())


def _images(figures: list[tuple[str, str]]) -> list[dict]:
    # As images of their own, so that the names in one figure do not meet those in another.
    return [
        dict(
            title=title,
            source='data:image/svg+xml;base64,' + base64.b64encode(svg.encode()).decode(),
        )
        for title, svg in figures
    ]


def _points(value: float | None) -> str:
    """0.7431 as 74.3, points of AP; a dash for what is not known."""
    return '–' if value is None else f'{100 * value:.1f}'


def _decimals(value: float | None, digits: int = 3) -> str:
    return '–' if value is None else f'{value:.{digits}f}'


def _share(value: float, total: float) -> str:
    return f'{100 * value / total:.0f} %' if total else '–'
