"""The picture of a study: every row with its seeds, and the learning curves."""

from pathlib import Path

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


def draw(
    results: list[dict],
    curves: dict,
    baseline: str | None,
    metrics: list[str],
    curve: str = HEADLINES[0][0],
):
    """Means with their standard deviation and the single seeds; and the learning curves.

    Args:
        results (list[dict]): Of ``study.carry_out`` or ``study_tables.read_csv``.
        curves (dict): Of :func:`read_curves`.
        baseline (str | None): A row, drawn as a line.
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
    panels = len(metrics) + bool(curves)
    room = max(1, 0.07 * max(map(len, names)))
    figure = Figure(figsize=(4.5 * panels + room, max(3.5, 0.38 * len(names) + 1.2)))
    figure.set_layout_engine('constrained')
    axes = figure.subplots(1, panels, squeeze=False)[0]
    palette = colormaps['tab10' if len(names) <= 10 else 'tab20'].colors
    colors = [palette[index % len(palette)] for index in range(len(names))]
    for axis, metric in zip(axes, metrics):
        one = points_of(summary[metric]['mean'] for summary in summaries)
        for position, (summary, color) in enumerate(zip(summaries, colors)):
            values = [
                one * result['metrics'].get(metric, np.nan)
                for result in results
                if result['row'] == summary['row']
            ]
            axis.plot(values, [position] * len(values), 'o', color=color, alpha=0.4, markersize=5)
            spread = one * (summary[metric]['std'] or 0)
            axis.errorbar(
                one * summary[metric]['mean'],
                position,
                xerr=spread,
                fmt='D',
                color=color,
                capsize=3,
            )
            if summary['row'] == baseline:
                axis.axvline(one * summary[metric]['mean'], color='grey', ls=':')
        axis.set_yticks(range(len(names)), names if axis is axes[0] else [''] * len(names))
        axis.invert_yaxis()
        what = 'points; ' if one == 100 else ''
        axis.set(title=metric, xlabel=f'{what}mean, standard deviation, single seeds')
        axis.grid(axis='x', alpha=0.3)
    if curves:
        points = [point for seeds in curves.values() for one in seeds.values() for point in one]
        one = points_of(value for _, value in points)
        for name, color in zip(names, colors):
            for number, points in enumerate(curves.get(name, {}).values()):
                epochs, values = zip(*points)
                label = name if number == 0 else None
                axes[-1].plot(epochs, one * np.array(values), color=color, alpha=0.6, label=label)
        axes[-1].set(title=f'{curve} during training', xlabel='epoch or iteration')
        axes[-1].grid(alpha=0.3)
        if len(names) <= 12:
            axes[-1].legend(fontsize=7)
    return figure


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
