"""The curves of the report, as SVG."""

import io
from collections.abc import Sequence

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FormatStrFormatter, MaxNLocator

from .curves import Curve, thinned
from .training_log import loss_keys, metric_keys, series

# After Okabe and Ito, without yellow and black: told apart by colour-blind eyes, and on a
# light as on a dark page.
COLORS = ('#2f86c9', '#e69f00', '#009e73', '#d55e00', '#cc79a7', '#56b4e9')
STYLES = ('-', '--')
GREY = '#7d7d7d'
CURVES_IN_FIGURE = len(COLORS) * len(STYLES)
POINTS = 400
# A class may be called `$x$`; and equal figures shall be equal files.
SETTINGS = {'text.parse_math': False, 'svg.hashsalt': 'analysis'}


@matplotlib.rc_context(SETTINGS)
def training_figures(training: list[dict], validation: list[dict]) -> list[tuple[str, str]]:
    """Losses, learning rate and metrics of a run, as far as it logged them.

    Returns:
        list[tuple[str, str]]: What each shows, and its SVG.
    """
    figures = []
    by_epoch = any('epoch' in row for row in training) or not training
    for title, keys, rows, label in (
        ('Losses', loss_keys(training), training, 'iteration'),
        ('Learning rate', ['lr'], training, 'iteration'),
        ('Validation', metric_keys(validation), validation, 'epoch' if by_epoch else 'iteration'),
    ):
        lines = {key: line for key, line in series(rows, keys).items() if line[0]}
        if not lines:
            continue
        figure, axes = _axes(title, label, '')
        for number, (steps, values) in enumerate(lines.values()):
            marker = 'o' if len(steps) < 30 else None
            axes.plot(steps, values, marker=marker, markersize=3, **_style(number))
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        if title == 'Losses' and all(min(values) > 0 for _, values in lines.values()):
            axes.set_yscale('log')
            axes.yaxis.set_major_formatter(FormatStrFormatter('%g'))
        _legend(axes, list(lines))
        figures.append((f'{title} over the {label}', _svg(figure)))
    return figures


@matplotlib.rc_context(SETTINGS)
def curve_figures(
    curves: Sequence[Curve], classes: Sequence[str], iou_thr: float
) -> list[tuple[str, str]]:
    """Precision over recall, and F1 over the threshold, the best one marked; several figures for
    many classes."""
    figures = []
    for title, x, y, x_label, y_label in (
        # From the first box on; what lies at recall 0 would be made up.
        ('Precision over recall', 'recall', 'precision', 'recall', 'precision'),
        ('F1 over the threshold', 'thresholds', 'f1', 'threshold of the score', 'F1'),
    ):
        for group, names in _groups(curves, classes):
            figure, axes = _axes(f'{title}, IoU {iou_thr:g}', x_label, y_label)
            for number, curve in enumerate(group):
                curve = thinned(curve, POINTS)
                values = getattr(curve, x), getattr(curve, y)
                axes.plot(*values, **_style(number))
                _mark_best(axes, number, curve, *values)
            axes.set(xlim=(0, 1.02), ylim=(0, 1.02))
            _legend(axes, names)
            figures.append((f'{title}: {", ".join(names)}', _svg(figure)))
    return figures


def _groups(curves, classes):
    """The classes that have a curve, so many at a time as can be told apart."""
    shown = [
        (curve, name) for curve, name in zip(curves, classes) if np.isfinite(curve.recall).any()
    ]
    for start in range(0, len(shown), CURVES_IN_FIGURE):
        yield zip(*shown[start : start + CURVES_IN_FIGURE])


def _mark_best(axes, number: int, curve: Curve, x: np.ndarray, y: np.ndarray) -> None:
    if curve.best is not None:
        color = COLORS[number % len(COLORS)]
        axes.plot(
            x[curve.best], y[curve.best], 'o', color=color, markersize=7, markeredgecolor=GREY
        )


def _style(number: int) -> dict:
    style = STYLES[number // len(COLORS) % len(STYLES)]
    return dict(color=COLORS[number % len(COLORS)], linestyle=style, linewidth=1.6)


def _axes(title: str, x: str, y: str):
    figure = Figure(figsize=(5.2, 3.9), layout='constrained')
    axes = figure.subplots()
    axes.set_title(title, color=GREY, fontsize=11)
    axes.set_xlabel(x, color=GREY)
    axes.set_ylabel(y, color=GREY)
    axes.tick_params(colors=GREY, which='both')
    axes.grid(color=GREY, alpha=0.25, linewidth=0.6)
    axes.set_facecolor('none')
    figure.patch.set_alpha(0)
    for side, spine in axes.spines.items():
        spine.set_color(GREY)
        spine.set_visible(side in ('left', 'bottom'))
    return figure, axes


def _legend(axes, names: Sequence[str]) -> None:
    if len(names) == 1:
        axes.set_title(f'{axes.get_title()}: {names[0]}', color=GREY, fontsize=11)
        return
    lines = [line for line in axes.lines if line.get_linestyle() != 'None']
    # Matplotlib leaves out names that begin with an underscore.
    labels = [f' {name}' if name.startswith('_') else name for name in names]
    axes.legend(lines, labels, frameon=False, labelcolor=GREY, fontsize=8)


def _svg(figure: Figure) -> str:
    file = io.StringIO()
    figure.savefig(file, format='svg', metadata=dict(Date=None))
    return file.getvalue()
