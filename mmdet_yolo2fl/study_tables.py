"""The tables of a study: a line for each run, the learning curves, means and differences."""

import itertools
import math
import re
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

import numpy as np
from scipy import stats

from .evaluators import is_coco
from .tables import csv_text, markdown_table, read_table
from .whole_files import write_text

# AP50 and AP: of a study's own evaluation by class, of CocoMetric, of VOCMetric.
HEADLINES = (
    ('AP50', 'AP'),
    ('coco/bbox_mAP_50', 'coco/bbox_mAP'),
    ('pascal_voc/AP50', 'pascal_voc/mAP'),
)


def averages(metrics: dict[str, float], by: Iterable[Mapping] = ()) -> dict[str, float]:
    """AP50 and AP among the metrics of a run, by these names; what it does not have is missing.

    ``VOCMetric``'s mean is over its own thresholds, by default 0.5 alone: it is no AP, unless
    there are ten. ``CocoMetric`` says nothing where a detector has found nothing: both are 0.

    Args:
        metrics (dict[str, float]): As an evaluation returns them.
        by (Iterable[Mapping]): Configs of the evaluators.
    """
    thresholds = [key for key in metrics if re.fullmatch(r'pascal_voc/AP\d\d', key)]
    found = {}
    for names in HEADLINES:
        for name, logged in zip(HEADLINES[0], names):
            is_ap = logged != 'pascal_voc/mAP' or len(thresholds) == 10
            if logged in metrics and is_ap:
                found.setdefault(name, metrics[logged])
    # What the one says that does not predict, of a teacher and its student, does not count.
    silent = all(name.startswith(('teacher/', 'student/')) for name in metrics)
    return dict.fromkeys(HEADLINES[0], 0.0) if silent and any(map(is_coco, by)) else found


def is_twin(name: str) -> bool:
    """Whether a metric of MMEngine's log says what AP50 and AP say, of all classes or of one, or
    is one of ``CocoMetric``'s further means of the boxes."""
    of_coco = re.fullmatch('coco/(bbox_.*|.*_precision)', name, re.S)
    return bool(of_coco) or any(name in names for names in HEADLINES[1:])


def headline(known: set[str], logged: bool = False) -> list[str]:
    """The names under which AP50 and AP are found; of another metric the first two names.

    Args:
        known (set[str]): Names of metrics.
        logged (bool): Only those of MMEngine's log, which have a slash. Defaults to False.
    """
    known = {name for name in known if '/' in name or not logged}
    for names in HEADLINES:
        if names[0] in known:
            return [name for name in names if name in known]
    return sorted(known)[:2]


def summarize(results: list[dict], baseline: str | None, metrics: list[str]) -> list[dict]:
    """Mean and spread of every row, and its paired difference to the baseline.

    Args:
        results (list[dict]): Of ``study.carry_out``.
        baseline (str | None): A row.
        metrics (list[str]): Names of metrics.

    Returns:
        list[dict]: For each row ``row``, ``seeds``, ``minutes``, and for each metric ``mean``,
        ``std`` (of a sample; None with one seed), ``difference`` (the mean over the seeds that
        both have; of one checkpoint beside trainings over all of theirs), ``pairs`` (the difference
        of each) and ``low``, ``high``: its 95 % confidence interval by Student's t for paired
        samples, None with fewer than two pairs.
    """
    by_row: dict[str, dict[int, dict]] = {}
    for result in results:
        by_row.setdefault(result['row'], {})[result['seed']] = result
    summaries = []
    for row, runs in by_row.items():
        summary = dict(
            row=row, seeds=len(runs), minutes=float(np.mean([r['minutes'] for r in runs.values()]))
        )
        for metric in metrics:
            values = [run['metrics'].get(metric, math.nan) for run in runs.values()]
            numbers = dict(
                mean=float(np.mean(values)),
                std=float(np.std(values, ddof=1)) if len(values) > 1 else None,
                difference=None,
                pairs=[],
                low=None,
                high=None,
            )
            others = by_row.get(baseline, {})
            pairs = _pairs(runs, others)
            if row != baseline and pairs:
                differences = np.array(
                    [
                        run['metrics'].get(metric, math.nan)
                        - other['metrics'].get(metric, math.nan)
                        for run, other in pairs
                    ]
                )
                numbers['difference'] = float(differences.mean())
                numbers['pairs'] = differences.tolist()
                is_paired = len(pairs) > 1 and min(len(runs), len(others)) > 1
                if is_paired and differences.std() > 0:
                    free, error = len(pairs) - 1, stats.sem(differences)
                    interval = stats.t.interval(0.95, free, numbers['difference'], error)
                    numbers['low'], numbers['high'] = map(float, interval)
            summary[metric] = numbers
        summaries.append(summary)
    return summaries


def markdown(summaries: list[dict], baseline: str | None, metrics: list[str]) -> str:
    """The table of :func:`summarize`: means with their standard deviations, and the differences
    of the first two metrics. What lies in 0..1 is in points, as AP is."""
    points = {
        metric: points_of(summary[metric]['mean'] for summary in summaries) for metric in metrics
    }
    head = ['', 'seeds', *metrics]
    compared = metrics[:2] if baseline else []
    head += [f'{metric} against {baseline}, 95 % interval' for metric in compared]
    lines = []
    for summary in summaries:
        cells = [summary['row'], summary['seeds']]
        for metric in metrics:
            numbers = summary[metric]
            one = points[metric]
            spread = '' if numbers['std'] is None else f' ± {one * numbers["std"]:.1f}'
            known = not math.isnan(numbers['mean'])
            cells.append(f'{one * numbers["mean"]:.1f}{spread}' if known else '')
        cells += [difference_text(summary[metric], points[metric]) for metric in compared]
        lines.append([*cells, f'{summary["minutes"]:.1f}'])
    return markdown_table([*head, 'minutes'], lines)


def difference_text(numbers: dict, one: float) -> str:
    """``+1.2 (-0.3 to +2.7)`` of a metric of :func:`summarize`; without an interval, or empty,
    where there is none.

    Args:
        numbers (dict): ``difference``, ``low`` and ``high``.
        one (float): What a difference of 1 is shown as (:func:`points_of`).
    """
    if numbers['difference'] is None or math.isnan(numbers['difference']):
        return ''
    text = f'{one * numbers["difference"]:+.1f}'
    if numbers['low'] is not None:
        text += f' ({one * numbers["low"]:+.1f} to {one * numbers["high"]:+.1f})'
    return text


def _is_evaluated(result: dict) -> bool:
    return bool(result.get('checkpoint_digest'))


def _pairs(runs: dict[int, dict], others: dict[int, dict]) -> list[tuple[dict, dict]]:
    """Runs of the same seeds; a checkpoint alone, beside trainings, has none and goes with all."""
    for one, rest in ((runs, others), (others, runs)):
        is_checkpoint = len(one) == 1 and all(map(_is_evaluated, one.values()))
        if is_checkpoint and not any(map(_is_evaluated, rest.values())):
            return list(itertools.product(runs.values(), others.values()))
    return [(run, others[seed]) for seed, run in runs.items() if seed in others]


def unlike_pairs(results: list[dict], baseline: str | None) -> list[str]:
    """What a reader of the differences should know: pairs of one seed that were not trained alike,
    in other precision or on more than a twentieth more images, a sentence for each row.

    Of a checkpoint that is only evaluated nobody knows how it was trained.
    """
    others = {one['seed']: one for one in results if one['row'] == baseline}
    found: dict[str, list[str]] = {}
    for one in results:
        other = others.get(one['seed'], one)
        if _is_evaluated(one) or _is_evaluated(other):
            continue
        unlike = []
        if one['precision'] != other['precision']:
            unlike.append(f'{one["precision"] or "?"} against {other["precision"] or "?"}')
        fewer, more = sorted((one['images'], other['images']))
        if more > 1.05 * fewer:
            unlike.append(f'{one["images"]} images against {other["images"]}')
        if unlike:
            found.setdefault(one['row'], []).append(f'seed {one["seed"]} {", ".join(unlike)}')
    return [f'Not trained alike: {row}, {"; ".join(pairs)}.' for row, pairs in found.items()]


def points_of(values: Iterable[float]) -> float:
    """By what a metric is multiplied to be shown: 100, or 1 where a value exceeds 1 (a count, or
    points already, as MMDetection's panoptic quality)."""
    return 1 if any(value > 1 for value in values) else 100


# What a line says of its run beside the metrics, and how it is read.
COLUMNS = dict(
    row=str, seed=int, minutes=float, images=int, parameters=int,
    machine=str, precision=str, config_hash=str, checkpoint_digest=str,
)  # fmt: skip
# Tables of other programs may lack them, and the last one those of trainings.
OPTIONAL = ('machine', 'precision', 'config_hash', 'checkpoint_digest')


def write_csv(file: Path, results: list[dict], asked: Collection[str] = ()) -> None:
    """One line for each run: ``COLUMNS``, AP50 and AP by class, and what other metrics say.

    Args:
        file (Path): The file.
        results (list[dict]): Of ``study.carry_out``.
        asked (Collection[str]): Further metrics, of those that are left out where there is AP50
            (:func:`is_twin`).
    """
    names = set()
    for result in results:
        known = set(result['metrics'])
        has_own = HEADLINES[0][0] in known
        names |= {name for name in known if not (has_own and is_twin(name)) or name in asked}
    names = sorted(names)
    of_checkpoints = any(result.get('checkpoint_digest') for result in results)
    columns = [name for name in COLUMNS if name != 'checkpoint_digest' or of_checkpoints]
    lines = []
    for result in results:
        about = [result.get(column) for column in columns]
        values = [result['metrics'].get(name) for name in names]
        lines.append(
            [f'{x:.2f}' if isinstance(x, float) else x for x in about]
            + ['' if value is None else f'{value:.4f}' for value in values]
        )
    write_text(file, csv_text([*columns, *names], lines))


def write_curves(file: Path, results: list[dict], metric: str | None = None) -> None:
    """One line for each evaluation: row, seed, epoch, and the metric of MMEngine's log.

    Args:
        file (Path): The file.
        results (list[dict]): Of ``study.carry_out``.
        metric (str, optional): Defaults to AP50, by the name that it has (:data:`HEADLINES`).
    """
    if metric is None:
        known = {name for result in results for point in result['curve'] for name in point}
        metric = (headline(known, logged=True) or ['none'])[0]
    lines = []
    for result in results:
        about = [result['row'], result['seed']]
        points = [point for point in result['curve'] if metric in point]
        lines += [[*about, point['epoch'], f'{point[metric]:.4f}'] for point in points]
    write_text(file, csv_text(['row', 'seed', 'epoch', metric], lines))


def read_csv(file: Path) -> list[dict]:
    """What :func:`write_csv` wrote, as results without curves.

    Raises:
        ValueError: If a column is missing or a number is none.
    """
    results = []
    for number, line in enumerate(read_table(file)[1], 2):
        try:
            for column in OPTIONAL:
                line.setdefault(column, '')
            result = {column: kind(line.pop(column)) for column, kind in COLUMNS.items()}
            result['metrics'] = {name: float(value) for name, value in line.items() if value}
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f'{file}, line {number}: {error!r}') from error
        results.append(result | dict(curve=[]))
    return results


def read_curves(
    file: Path, metric: str | None = None
) -> dict[str, dict[int, list[tuple[int, float]]]]:
    """``(epoch, value)`` by row and seed, as :func:`write_curves` wrote them.

    Args:
        file (Path): The file.
        metric (str, optional): Only if the curves are of this metric; else there are none.

    Raises:
        ValueError: If a column is missing or a number is none.
    """
    curves: dict = {}
    columns, lines = read_table(file)
    if not columns:
        raise ValueError(f'{file}: a table without a first line')
    *_, name = columns
    for number, line in enumerate(lines if metric in (None, name) else (), 2):
        try:
            points = curves.setdefault(line['row'], {}).setdefault(int(line['seed']), [])
            points.append((int(line['epoch']), float(line[name])))
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f'{file}, line {number}: {error!r}') from error
    return curves


def curve_metric(file: Path) -> str:
    """The metric whose curves :func:`write_curves` wrote into a file."""
    return (read_table(file)[0] or [''])[-1]


def results_by_hash(
    folder: Path, metric: str | None = None, own: str | None = None
) -> dict[str, dict]:
    """The results of every table in a folder, with their curves, by the hash of their config.

    Args:
        folder (Path): With what :func:`write_csv` and :func:`write_curves` wrote; the latter as
            ``<name>_curves.csv``.
        metric (str, optional): Of the curves; those of another one are left out. Defaults to
            whichever a table has.
        own (str, optional): Name of the table that is right where several have the same config,
            run on different machines. Defaults to the last in the order of names.

    Raises:
        ValueError: If a table is broken.
    """
    found = {}
    for table in sorted(folder.glob('*.csv'), key=lambda table: (table.stem == own, table.name)):
        curves = table.with_name(f'{table.stem}_curves.csv')
        if table.stem.endswith('_curves') or not curves.is_file():
            continue
        points = read_curves(curves, metric)
        name = curve_metric(curves)
        for result in read_csv(table):
            curve = points.get(result['row'], {}).get(result['seed'], [])
            result['curve'] = [{'epoch': epoch, name: value} for epoch, value in curve]
            if result['config_hash'] and result['metrics']:
                found[result['config_hash']] = result
    return found
