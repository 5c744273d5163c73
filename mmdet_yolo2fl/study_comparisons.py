"""Differences of rows of several studies side by side: one table and one picture."""

from pathlib import Path

import matplotlib

from .study_figure import DIFFERENCES, draw_differences
from .study_tables import (
    difference_text,
    headline,
    points_of,
    read_csv,
    summarize,
    unlike_pairs,
)
from .tables import markdown_table, read_table
from .whole_files import write_png, write_text

# The columns of a list of comparisons that say which; the others are words for the reader.
WHICH = ('table', 'row', 'baseline')


def read_comparisons(file: Path) -> list[dict]:
    """A list of comparisons: a CSV with ``table``, ``row`` and ``baseline``, and whatever other
    columns tell a reader what is compared; without such it is the rows.

    Args:
        file (Path): The list; each ``table`` is a CSV of a study, relative to the list's folder.

    Returns:
        list[dict]: For each ``words`` (dict: the other columns), ``table`` (Path), ``row``,
        ``baseline``.

    Raises:
        ValueError: If a column or a cell is missing, or nothing is listed.
    """
    columns, lines = read_table(file)
    lacking = [name for name in WHICH if name not in columns]
    if lacking:
        raise ValueError(f'{file} has no column {lacking}; it has {columns}')
    if not lines:
        raise ValueError(f'{file} lists no comparison below its first line')
    comparisons = []
    for number, line in enumerate(lines, 2):
        if None in line or not all(line.values()):
            raise ValueError(f'{file}, line {number}: expected a text for each of {columns}')
        table, row, baseline = (line.pop(name) for name in WHICH)
        words = line or dict(row=row, against=baseline)
        comparisons.append(dict(words=words, table=file.parent / table, row=row, baseline=baseline))
    return comparisons


def compare(comparisons: list[dict], metrics: list[str] | None = None) -> list[dict]:
    """What the differences are.

    Args:
        comparisons (list[dict]): Of :func:`read_comparisons`.
        metrics (list[str], optional): Columns of the studies' tables. Defaults to AP50 and AP; of
            other metrics to the first two that all tables have.

    Returns:
        list[dict]: For each ``words``; ``metrics``, for each what ``study_tables.summarize`` has of
        it and ``one``, as what a difference of 1 is shown; ``unlike``, what
        ``study_tables.unlike_pairs`` says, with the table and the baseline.

    Raises:
        OSError: If a table cannot be read.
        ValueError: If a table is broken or has no such row, baseline or metric, or if the two are
            one or have no seed in common.
    """
    tables = {comparison['table']: None for comparison in comparisons}
    for table in tables:
        tables[table] = read_csv(table)
    known = [{name for run in runs for name in run['metrics']} for runs in tables.values()]
    known = set.intersection(*known)
    metrics = metrics or headline(known)
    if not metrics or not known.issuperset(metrics):
        raise ValueError(f'not every table has {metrics or "a metric"}; all have {sorted(known)}')
    found = [_difference(one, tables[one['table']], metrics) for one in comparisons]
    for metric in metrics:
        # One scale for all, as they stand in one column.
        values = (
            run['metrics'].get(metric, 0)
            for one in comparisons
            for run in tables[one['table']]
            if run['row'] in (one['row'], one['baseline'])
        )
        scale = points_of(values)
        for one in found:
            one['metrics'][metric]['one'] = scale
    return found


def _difference(comparison: dict, results: list[dict], metrics: list[str]) -> dict:
    table, row, baseline = (comparison[name] for name in WHICH)
    if row == baseline:
        raise ValueError(f'{table}: {row!r} is compared with itself')
    rows = {result['row'] for result in results}
    if not {row, baseline} <= rows:
        lacking = sorted({row, baseline} - rows)
        raise ValueError(f'{table} has no row {lacking}; it has {sorted(rows)}')
    results = [result for result in results if result['row'] in (row, baseline)]
    summaries = {one['row']: one for one in summarize(results, baseline, metrics)}
    found = {metric: summaries[row][metric] for metric in metrics}
    if not found[metrics[0]]['pairs']:
        raise ValueError(f'{table}: {row!r} and {baseline!r} have no seed in common')
    unlike = [
        f'{table.name} against {baseline}: {text}' for text in unlike_pairs(results, baseline)
    ]
    return dict(words=comparison['words'], metrics=found, unlike=unlike)


def as_markdown(found: list[dict]) -> str:
    """What :func:`compare` found as a table, a line for each comparison."""
    metrics = list(found[0]['metrics'])
    lines = []
    for one in found:
        numbers = one['metrics'].values()
        seeds = len(next(iter(numbers))['pairs'])
        texts = [difference_text(metric, metric['one']) for metric in numbers]
        lines.append([*one['words'].values(), seeds, *texts])
    return markdown_table([*found[0]['words'], 'seeds', *metrics], lines)


@matplotlib.rc_context({'text.parse_math': False})
def draw(found: list[dict]):
    """What :func:`compare` found as a picture, with a panel for each metric.

    Returns:
        matplotlib.figure.Figure: To be saved.
    """
    from matplotlib.figure import Figure

    metrics = list(found[0]['metrics'])
    words = [list(found[0]['words']), *(list(one['words'].values()) for one in found)]
    words = [[word.replace('`', '') for word in line] for line in words]
    widths = [max(map(len, column)) for column in zip(*words)]
    names = ['  '.join(map(str.ljust, line, widths)) for line in words]
    figure = Figure(figsize=(4 * len(metrics) + 0.07 * len(names[0]), 0.3 * len(names) + 1.2))
    figure.set_layout_engine('constrained')
    axes = figure.subplots(1, len(metrics), sharey=True, squeeze=False)[0]
    for axis, metric in zip(axes, metrics):
        numbers = [one['metrics'][metric] for one in found]
        draw_differences(axis, numbers, numbers[0]['one'])
        unit = 'points; ' if numbers[0]['one'] == 100 else ''
        axis.set(title=metric, xlabel=unit + DIFFERENCES)
        axis.grid(axis='x', alpha=0.3)
    axes[0].tick_params(left=False)
    axes[-1].tick_params(left=False)
    # The heads of the columns stand above the first line.
    axes[0].set_yticks(range(-1, len(found)), names, family='monospace', fontsize=8)
    axes[0].set_ylim(len(found) - 0.5, -1.5)
    return figure


def write_comparisons(file: Path, metrics: list[str] | None = None, out: Path | None = None) -> str:
    """Write ``<name>.md`` and ``<name>.png`` of a list of comparisons, ``<name>.csv``.

    Args:
        file (Path): As :func:`read_comparisons` takes it.
        metrics (list[str], optional): As :func:`compare` takes them.
        out (Path, optional): Folder for them, made if need be. Defaults to that of the list.

    Returns:
        str: The table as Markdown, and below it pairs that were not trained alike.

    Raises:
        OSError: If a table cannot be read.
        ValueError: As of :func:`read_comparisons` and :func:`compare`.
    """
    found = compare(read_comparisons(file), metrics)
    unlike = dict.fromkeys(sentence for one in found for sentence in one['unlike'])
    text = '\n\n'.join([as_markdown(found), *unlike])
    out = out or file.parent
    write_text(out / f'{file.stem}.md', text + '\n')
    write_png(out / f'{file.stem}.png', draw(found), dpi=80)
    return text
