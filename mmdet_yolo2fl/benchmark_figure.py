"""The picture of tools/benchmark.py."""

import itertools

import matplotlib
from matplotlib.figure import Figure
from matplotlib.ticker import LogFormatter, ScalarFormatter
from matplotlib.transforms import Bbox

# What is measured, as tables and pictures name it.
COLUMNS = {
    'config': '',
    'mode': '',
    'parameters_m': 'parameters (M)',
    'gflops': 'GFLOPs',
    'network_ms': 'network (ms)',
    'network_images_s': 'network (images/s)',
    'prediction_ms': 'whole prediction (ms)',
    'images_s': 'network and boxes (images/s)',
    'step_ms': 'training step (ms)',
    'loss_share': 'of it losses',
    'memory_mb': 'its memory (MB)',
    'AP50': 'AP50',
    'AP': 'AP',
}


@matplotlib.rc_context({'text.parse_math': False})  # a name may be `$x$`
def draw(rows: list[dict]) -> Figure:
    """AP50 over milliseconds, if accuracies are known; else milliseconds and memory as bars.

    Args:
        rows (list[dict]): A detector in a mode each, by the keys of ``COLUMNS``: what failed is not
            there. Accuracies lie in 0..1.
    """
    known = [row for row in rows if {'AP50', 'prediction_ms'} <= {*row}]
    lines = len({row['config'] for row in known}) if known else len(rows)
    figure = Figure(figsize=(8 if known else 12, max(5, 0.5 * lines + 1)))
    figure.set_layout_engine('constrained')
    if known:
        axis = figure.subplots()
        modes = list(dict.fromkeys(row['mode'] for row in known))
        fastest_first = sorted(known, key=lambda row: row['prediction_ms'])
        names = list(dict.fromkeys(row['config'] for row in fastest_first))
        labels, everywhere = {}, []
        for name in names:
            own = [row for row in known if row['config'] == name]
            points = [(row['prediction_ms'], 100 * row['AP50']) for row in own]
            (line,) = axis.plot(*zip(*points), '-', linewidth=1)
            for row, point in zip(own, points):
                marker = 'osD^'[modes.index(row['mode'])]
                axis.plot(*point, marker, markersize=8, color=line.get_color())
            labels[name] = min(points)
            everywhere += points
        if len(modes) > 1:
            for mode, marker in zip(modes, 'osD^'):
                axis.plot([], [], marker, color='grey', label=mode)
            axis.legend(loc='lower left')
        axis.set(xlabel='whole prediction of an image (ms)', ylabel='AP50')
        axis.margins(0.15)
        times = [row['prediction_ms'] for row in known]
        if max(times) > 5 * min(times):
            axis.set(xscale='log', xlim=(0.8 * min(times), 2 * max(times)))
            axis.xaxis.set_major_formatter(ScalarFormatter())
            axis.xaxis.set_minor_formatter(LogFormatter(minor_thresholds=(2, 0.4)))
        else:
            axis.set_xlim(0, 1.2 * max(times))
        axis.grid(alpha=0.3)
        _write_labels(axis, labels, everywhere)
        return figure
    labels = [
        row['config'] + ('' if row['mode'] == 'float32' else f', {row["mode"]}') for row in rows
    ]
    axes = figure.subplots(1, 3)
    for axis, key in zip(axes, ('prediction_ms', 'step_ms', 'memory_mb')):
        bars = axis.barh(labels, [row.get(key, 0) for row in rows], color='tab:blue')
        texts = [f'{row[key]:.3g}' if key in row else 'failed' for row in rows]
        axis.bar_label(bars, texts, padding=3)
        axis.margins(x=0.2)
        axis.invert_yaxis()
        axis.set(title=COLUMNS[key])
        if axis is not axes[0]:
            axis.set_yticklabels([])
    return figure


def _write_labels(axis, labels: dict[str, tuple], points: list[tuple]) -> None:
    """Names at their points, inside, where they hide no point and no other name, if possible."""
    axis.figure.draw_without_rendering()  # now the points have their places
    axis.autoscale(False)
    taken = [Bbox.from_bounds(x - 6, y - 6, 12, 12) for x, y in axis.transData.transform(points)]
    inside = axis.get_window_extent()
    # Above and below, and ever farther, where others stand near.
    offsets = [offset for step in range(0, 84, 12) for offset in (8 + step, -17 - step)]
    for name, point in labels.items():
        text = axis.annotate(name, point, xytext=(0, 8), textcoords='offset points')
        for offset, side in itertools.product(offsets, ('left', 'center', 'right')):
            text.set(ha=side, position=(0, offset))
            box = text.get_window_extent()
            within = inside.x0 <= box.x0 and box.x1 <= inside.x1
            within = within and inside.y0 <= box.y0 and box.y1 <= inside.y1
            if within and not any(map(box.overlaps, taken)):
                break
        else:
            offset = offsets[0]
            text.set(ha='left', position=(0, offset))
        taken.append(text.get_window_extent())
        if offset not in offsets[:2]:
            _, end = axis.transData.inverted().transform((box.x0, box.y0 if offset > 0 else box.y1))
            axis.plot(2 * [point[0]], [point[1], end], color='grey', linewidth=0.6, zorder=1)
