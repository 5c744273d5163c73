"""The picture of a study: every row with its seeds, and the learning curves."""

from pathlib import Path

import matplotlib
import numpy as np

from .study_tables import (
    HEADLINES,
    curve_metric,
    headline,
    markdown,
    points_of,
    read_csv,
    read_curves,
    summarize,
    unlike_pairs,
)
from .whole_files import write_png, write_text


@matplotlib.rc_context({'text.parse_math': False})  # a row may be called `$x$`
def draw(
    results: list[dict],
    curves: dict,
    baseline: str | None,
    metrics: list[str],
    curve: str = HEADLINES[0][0],
):
    """Means with the single seeds, the paired differences below them, and the learning curves.

    Args:
        results (list[dict]): Of ``study.carry_out`` or ``study_tables.read_csv``.
        curves (dict): Of :func:`read_curves`.
        baseline (str | None): A row, drawn as a line; the differences are to it.
        metrics (list[str]): Up to three to show side by side.
        curve (str): What the curves show.

    Returns:
        matplotlib.figure.Figure: To be saved.
    """
    from matplotlib import colormaps
    from matplotlib.figure import Figure

    if all(len(points) < 2 for seeds in curves.values() for points in seeds.values()):
        curves = {}  # one evaluation is no curve
    summaries = summarize(results, baseline, metrics)
    names = [summary['row'] for summary in summaries]
    compared = [s for s in summaries if any(s[metric]['pairs'] for metric in metrics)]
    lines = [len(names), *([len(compared)] if compared else [])]
    room = max(1, 0.07 * max(map(len, names)))
    size = (4.5 * (len(metrics) + bool(curves)) + room, max(3.5, 0.38 * sum(lines) + 1.2))
    figure = Figure(figsize=size)
    figure.set_layout_engine('constrained')
    axes = figure.subplot_mosaic(
        [[f'{row} {m}' for m in metrics] + ['curves'] * bool(curves) for row in range(len(lines))],
        height_ratios=[count + 1 for count in lines],
    )
    palette = colormaps['tab10' if len(names) <= 10 else 'tab20'].colors
    colors = {name: palette[index % len(palette)] for index, name in enumerate(names)}
    for metric in metrics:
        one = points_of(summary[metric]['mean'] for summary in summaries)
        unit = 'points; ' if one == 100 else ''
        labels = metric == metrics[0]
        axis = axes[f'0 {metric}']
        for position, (summary, color) in enumerate(zip(summaries, colors.values())):
            name, numbers = summary['row'], summary[metric]
            singles = [one * r['metrics'].get(metric, np.nan) for r in results if r['row'] == name]
            axis.plot(singles, [position] * len(singles), 'o', color=color, alpha=0.4, markersize=5)
            spread, look = one * (numbers['std'] or 0), dict(fmt='D', color=color, capsize=3)
            axis.errorbar(one * numbers['mean'], position, xerr=spread, **look)
            if name == baseline:
                axis.axvline(one * numbers['mean'], color='grey', ls=':')
        _name_lines(axis, names if labels else [''] * len(names))
        axis.set(title=metric, xlabel=f'{unit}mean, standard deviation, single seeds')
        if compared:
            axis = axes[f'1 {metric}']
            draw_differences(axis, [summary[metric] for summary in compared], one)
            _name_lines(axis, [s['row'] if labels else '' for s in compared])
            axis.set(title=f'{metric} against {baseline}', xlabel=f'{unit}{DIFFERENCES}')
    if curves:
        _draw_curves(axes['curves'], curves, colors)
        axes['curves'].set(title=f'{curve} during training', xlabel='epoch or iteration')
    return figure


DIFFERENCES = (
    'mean of the pairs, 95 % interval, single pairs\nblue: higher, red: lower, grey: not shown'
)


def draw_differences(axis, numbers: list[dict], one: float) -> None:
    """A line for each comparison: the pairs, the mean of their differences and its interval; blue
    where that lies above 0, red below, grey where it contains it or there is none.

    Args:
        axis (matplotlib.axes.Axes): To draw on.
        numbers (list[dict]): ``difference``, ``pairs``, ``low`` and ``high`` of each comparison, as
            ``study_tables.summarize`` has them.
        one (float): What a difference of 1 is shown as.
    """
    axis.axvline(0, color='black', lw=0.8)
    for position, pair in enumerate(numbers):
        if not pair['pairs']:
            continue
        low, mean, high = (np.nan if pair[k] is None else one * pair[k] for k in LIMITS)
        color = 'tab:blue' if low > 0 else 'tab:red' if high < 0 else 'tab:grey'
        points = one * np.array(pair['pairs'])
        axis.plot(points, [position] * len(points), 'o', color=color, alpha=0.4, markersize=5)
        axis.errorbar(
            mean, position, xerr=[[mean - low], [high - mean]], fmt='D', color=color, capsize=3
        )


LIMITS = ('low', 'difference', 'high')


def _name_lines(axis, names: list[str]) -> None:
    """Write the names beside the lines, the first at the top."""
    axis.set_yticks(range(len(names)), names)
    axis.set_ylim(len(names) - 0.5, -0.5)
    axis.grid(axis='x', alpha=0.3)


def _draw_curves(axis, curves: dict, colors: dict) -> None:
    values = [value for seeds in curves.values() for one in seeds.values() for _, value in one]
    one = points_of(values)
    for name, color in colors.items():
        for number, points in enumerate(curves.get(name, {}).values()):
            epochs, values = zip(*points)
            label = name if number == 0 else None
            axis.plot(epochs, one * np.array(values), color=color, alpha=0.6, label=label)
    axis.grid(alpha=0.3)
    if len(colors) <= 12:
        axis.legend(fontsize=7)


MAX_CLASSES = 6


def write_report(
    table: Path,
    baseline: str | None,
    metrics: list[str] | None = None,
    out: Path | None = None,
) -> str:
    """Write ``<name>.md`` and ``<name>.png`` from ``<name>.csv`` and its curves.

    Args:
        table (Path): Of ``study_tables.write_csv``; ``<name>_curves.csv`` may lie beside it.
        baseline (str | None): A row; one that is not in the table is not compared with.
        metrics (list[str], optional): Columns; the first two are drawn. Defaults to AP50, AP,
            and AP50 of every class if they are few; of another metric to its first two.
        out (Path, optional): Folder for them, made if need be. Defaults to that of the table.

    Returns:
        str: The table as Markdown.

    Raises:
        ValueError: If the table is broken, or lacks one of the metrics.
    """
    results = read_csv(table)
    rows = dict.fromkeys(result['row'] for result in results)
    known = {name for result in results for name in result['metrics']}
    if baseline is not None and baseline not in rows:
        baseline = None
    if metrics is None:
        by_class = sorted(name for name in known if name.startswith('AP50 '))
        metrics = [*headline(known), *(by_class if len(by_class) <= MAX_CLASSES else ())]
    lacking = [metric for metric in metrics if metric not in known]
    if lacking or not metrics:
        raise ValueError(f'{table} has no {lacking or "metrics"}; it has {sorted(known)}')
    curves = table.with_name(f'{table.stem}_curves.csv')
    curve = curve_metric(curves) if curves.is_file() else ''
    curves = read_curves(curves) if curves.is_file() else {}
    # As the other panels name it.
    curve = {logged: name for names in HEADLINES for logged, name in zip(names, HEADLINES[0])}.get(
        curve, curve
    )
    text = markdown(summarize(results, baseline, metrics), baseline, metrics)
    text = '\n\n'.join([text, *unlike_pairs(results, baseline)])
    out = out or table.parent
    out.mkdir(parents=True, exist_ok=True)
    write_text(out / f'{table.stem}.md', text + '\n')
    figure = draw(results, curves, baseline, metrics[:2], curve)
    write_png(out / f'{table.stem}.png', figure, dpi=80)
    return text
