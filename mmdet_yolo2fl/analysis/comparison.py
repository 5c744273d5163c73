"""What several detectors do wrong, side by side: the kinds of error of each class."""

import re
from collections.abc import Sequence
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from ..tables import csv_text, markdown_table, read_table
from ..whole_files import write_png, write_text
from .errors import KINDS
from .figures import COLORS, SETTINGS
from .run_folder import study_result
from .summary import shortest_names

COUNTS = ('missed', 'false', *KINDS)
# More panels than these are no picture: the classes with the most errors are drawn.
CLASSES_IN_FIGURE = 8


def error_lines(summaries: dict[Path, dict]) -> list[dict]:
    """A line for each run and class.

    Args:
        summaries (dict[Path, dict]): Of ``summarize``, by the folders of the runs. Those called
            ``seed_0``, ``seed_1``, ... are the seeds of one row, which their study or their
            parent names.

    Returns:
        list[dict]: ``row``, ``seed`` ('' without one), ``name`` (of the class), ``truths``,
        ``threshold`` (of the score, from which predictions are counted), ``missed``, ``false``,
        each of ``KINDS``, ``ap``, ``ap50`` (0..1, None where there are no truths), ``ap small``
        and so on.

    Raises:
        ValueError: If the runs have not been tested on the same boxes.
    """
    first, *others = summaries
    truths = {run: _truths(summary) for run, summary in summaries.items()}
    for run in others:
        if truths[run] != truths[first]:
            raise ValueError(
                f'{run} was tested on other boxes than {first}: {truths[run]} and {truths[first]}. '
                'The reports are written; only what has the same classes and truths is compared'
            )
    is_seed = {run: re.fullmatch(r'seed_\d+', run.name) is not None for run in summaries}
    names = _row_names({run: run.parent if is_seed[run] else run for run in summaries})
    return [
        dict(row=names[run], seed=run.name.removeprefix('seed_') if is_seed[run] else '')
        | {key: line[key] for key in ('name', 'truths', 'threshold', *COUNTS, 'ap', 'ap50')}
        | {f'ap {size}': ap for size, ap in line['ap_by_size'].items()}
        for run, summary in summaries.items()
        for line in summary['classes']
    ]


def _row_names(folders: dict[Path, Path]) -> dict[Path, str]:
    """By run: the row that a study has written into its result, else the end of its folder."""
    short = shortest_names([str(folder) for folder in folders.values()])
    names = {run: study_result(run).get('row', name) for run, name in zip(folders, short)}
    # Two studies may have rows of one name.
    is_clear = len(set(names.values())) == len(set(folders.values()))
    return names if is_clear else dict(zip(folders, short))


def _truths(summary: dict) -> dict[str, int]:
    return {line['name']: line['truths'] for line in summary['classes']}


def mean_errors(lines: Sequence[dict]) -> list[dict]:
    """The means over the seeds, by class and then by row, with their number as ``seeds``.

    Args:
        lines (Sequence[dict]): Of :func:`error_lines`.
    """
    groups: dict[tuple, list[dict]] = {}
    for line in lines:
        groups.setdefault((line['name'], line['row']), []).append(line)
    order = list(dict.fromkeys(line['name'] for line in lines))
    means = []
    for (name, row), runs in sorted(groups.items(), key=lambda group: order.index(group[0][0])):
        numbers = {}
        for key in [key for key in runs[0] if key not in ('row', 'seed', 'name')]:
            known = [run[key] for run in runs if run[key] is not None]
            numbers[key] = float(np.mean(known)) if known else None
        means.append(dict(name=name, row=row, seeds=len(runs)) | numbers)
    return means


def caption(summary: dict) -> str:
    """What has been counted, by one of the summaries."""
    facts = summary['facts']
    return (
        f'{facts["Data set"]}, IoU {summary["iou_thr"]:g}, predictions with scores from '
        f'{summary["threshold_text"]} on'
    )


def markdown(means: Sequence[dict]) -> str:
    """The table of :func:`mean_errors`, with AP in points."""
    aps = [key for key in means[0] if key.startswith('ap')]
    aps = [key for key in aps if any(line[key] is not None for line in means)]
    heads = [re.sub('^ap', 'AP', key) for key in aps]
    kinds = ['another class' if kind == 'class' else kind for kind in COUNTS]
    head = ['class', '', 'seeds', 'truths', *kinds, *heads]
    lines = []
    for line in means:
        one = line['seeds'] == 1
        counts = [f'{line[count]:.{0 if one else 1}f}' for count in COUNTS]
        points = ['' if line[key] is None else f'{100 * line[key]:.1f}' for key in aps]
        cells = [line['name'], line['row'], line['seeds'], f'{line["truths"]:.0f}']
        lines.append([*cells, *counts, *points])
    return markdown_table(head, lines)


@matplotlib.rc_context(SETTINGS)
def draw(means: Sequence[dict], title: str = '') -> Figure:
    """For each class what is missed, to the left, and what is false, by its kind, to the right."""
    worst = {}
    for line in means:
        worst[line['name']] = worst.get(line['name'], 0) + line['missed'] + line['false']
    names = sorted(worst, key=worst.get, reverse=True)[:CLASSES_IN_FIGURE]
    rows = list(dict.fromkeys(line['row'] for line in means))
    by_place = {(line['name'], line['row']): line for line in means}
    room = max(1, 0.075 * max(map(len, rows)))
    figure = Figure(figsize=(4.2 * len(names) + room, max(3, 0.42 * len(rows) + 1.6)))
    figure.set_layout_engine('constrained')
    axes = figure.subplots(1, len(names), squeeze=False)[0]
    for axis, name in zip(axes, names):
        of_rows = [by_place[name, row] for row in rows]
        places = range(len(rows))
        missed = [-line['missed'] for line in of_rows]
        axis.barh(places, missed, color=COLORS[-1], label='missed')
        start = np.zeros(len(rows))
        for kind, color in zip(KINDS, COLORS):
            width = np.array([line[kind] for line in of_rows])
            axis.barh(places, width, left=start, color=color, label=f'false: {kind}')
            start += width
        axis.axvline(0, color='black', linewidth=0.8)
        axis.set_yticks(places, rows if axis is axes[0] else [''] * len(rows))
        axis.invert_yaxis()
        axis.set(title=f'{name}, {of_rows[0]["truths"]:.0f} truths', xlabel='boxes')
        axis.xaxis.set_major_formatter(lambda value, _: f'{abs(value):g}')
        axis.grid(axis='x', alpha=0.3)
    handles, labels = axes[0].get_legend_handles_labels()
    columns = min(len(labels), 2 * len(names))
    figure.legend(handles, labels, loc='outside lower center', ncols=columns, frameon=False)
    figure.suptitle(title, fontsize=9, wrap=True)
    return figure


def write_comparison(folder: Path, summaries: dict[Path, dict]) -> tuple[str, list[Path]]:
    """Write ``errors.csv`` (a line for each run and class), ``errors.md`` (means over the seeds)
    and ``errors.png``.

    Args:
        folder (Path): For them, made if need be.
        summaries (dict[Path, dict]): As of :func:`error_lines`, with ``facts`` (``Data set`` at
            least) and ``threshold_text``, as ``tools/analyze.py`` adds them.

    Returns:
        tuple[str, list[Path]]: The table as Markdown, and the files.

    Raises:
        ValueError: As of :func:`error_lines`.
    """
    lines = error_lines(summaries)
    head, table = lines[0], folder / 'errors.csv'
    write_text(table, csv_text(head, [[_short(line[key]) for key in head] for line in lines]))
    text, files = _write_means(table, lines, caption(next(iter(summaries.values()))))
    return text, [table, *files]


def _write_means(table: Path, lines: list[dict], title: str) -> tuple[str, list[Path]]:
    means = mean_errors(lines)
    text = f'{title}:\n\n{markdown(means)}'
    files = [table.with_suffix(kind) for kind in ('.md', '.png')]
    write_text(files[0], text + '\n')
    write_png(files[1], draw(means, title), dpi=80)
    return text, files


def is_error_table(table: Path) -> bool:
    """Whether a CSV is one of :func:`write_comparison`."""
    return {'row', 'seed', 'name', 'truths', *COUNTS} <= {*read_table(table)[0]}


def write_again(table: Path, out: Path | None = None) -> str:
    """Write the Markdown table and the picture beside one that :func:`write_comparison` has
    written, under its name, which may be another by now.

    Args:
        table (Path): The CSV. What it counts stands in the first line of the Markdown beside it.
        out (Path, optional): Folder for them, made if need be. Defaults to that of the table.

    Returns:
        str: The table as Markdown.

    Raises:
        ValueError: If a number is missing or none, or a row lacks a class of another.
    """
    lines = []
    for number, line in enumerate(read_table(table)[1], 2):
        texts = {key: line.pop(key) for key in ('row', 'seed', 'name')}
        try:
            # Where there is no object, there is no AP.
            may_lack = [key for key in line if key.startswith('ap') and not line[key]]
            numbers = {key: None if key in may_lack else float(x) for key, x in line.items()}
        except (TypeError, ValueError) as error:
            raise ValueError(f'{table}, line {number}: {error!r}') from error
        lines.append(texts | numbers)
    rows, names = ({line[key] for line in lines} for key in ('row', 'name'))
    if not lines or len({(line['row'], line['name']) for line in lines}) < len(rows) * len(names):
        raise ValueError(f'{table}: expected a line for each class of each row')
    beside = table.with_suffix('.md')
    title = beside.read_text('utf-8').split(':\n')[0] if beside.is_file() else table.stem
    return _write_means((out or table.parent) / table.name, lines, title)[0]


def _short(value):
    return round(value, 4) if isinstance(value, float) else value
