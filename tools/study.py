"""Trains configs x seeds x overrides with the same budget, and tells which differences are real.

python tools/study.py studies/bccd_losses.py                 run what is missing, then report
python tools/study.py studies/bccd_losses.py --rows 'cross entropy' 'focal' --jobs 2
python tools/study.py studies/bccd_losses.py --report        only report what there is

A study file says what to compare: see mmdet_yolo2fl/study.py and the files in studies/. Every run
has a folder of its own under work_dirs/study/<name>; started again, the study goes on where it
stopped. After every run the tables are written anew: <name>.csv (a line for each run),
<name>_curves.csv, <name>.md (mean, standard deviation, paired difference to the baseline with its
interval) and <name>.png. A study may name checkpoints, and is then one of NMS, sizes and flips at
test time: it trains nothing. What stands in a table of --tables with the same config is not run
again, even where its folder is gone.
"""

import argparse
import itertools
import os
import shutil
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from queue import Queue

import torch

from mmdet_yolo2fl.command_line import add_config_options, avoid_mps
from mmdet_yolo2fl.study import carry_out, folder_name, load_study
from mmdet_yolo2fl.study_figure import write_report
from mmdet_yolo2fl.study_tables import (
    curve_metric,
    headline,
    read_csv,
    results_by_hash,
    write_csv,
    write_curves,
)
from mmdet_yolo2fl.whole_files import make_folder

# Says that the standard input is a pipe, which the study holds open as long as it lives.
PIPE = 'MMDET_YOLO2FL_STUDY_PIPE'
# What the run was when the study was started.
HASH = 'MMDET_YOLO2FL_STUDY_HASH'


def parse_args(args=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('study', type=Path, help='study file')
    parser.add_argument('--rows', nargs='+', metavar='ROW', help='only these rows')
    parser.add_argument('--seeds', nargs='+', type=int, metavar='SEED', help='only these seeds')
    parser.add_argument(
        '--jobs', type=int, help='runs at once (default: one for each GPU; on a CPU one)'
    )
    parser.add_argument('--out', type=Path, help='folder of the runs')
    parser.add_argument(
        '--tables', type=Path, help='folder of the tables (default: that of the runs)'
    )
    parser.add_argument(
        '--metrics',
        nargs='+',
        help="columns of the report, such as 'AP50 Platelets' (default: AP50, AP, AP50 by class; "
        'the first two, if the metric is neither COCO nor VOC)',
    )
    parser.add_argument('--curve', help='metric of the curves (default: AP50)')
    parser.add_argument('--report', action='store_true', help='train nothing')
    add_config_options(parser)
    parser.add_argument('--worker', nargs=2, metavar=('ROW', 'SEED'), help=argparse.SUPPRESS)
    args = parser.parse_args(args)
    if not args.study.is_file():
        parser.error(f'{args.study}: there is no such study file')
    if args.jobs is None:
        args.jobs = max(1, torch.cuda.device_count())
    if args.jobs < 1:
        parser.error('--jobs must be at least 1')
    args.out = args.out or Path('work_dirs', 'study', args.study.stem)
    args.tables = args.tables or args.out
    try:
        args.loaded = load_study(args.study, args.out, args.cfg_options)
        args.known = results_by_hash(args.tables, args.curve, args.loaded.name)
    except Exception as error:  # a study is a program, and may fail like any other
        parser.error(str(error))
    known = {run.row for run in args.loaded.runs}
    wrong = set(args.rows or ()) - known
    if wrong:
        parser.error(f'--rows: {args.study} has no {sorted(wrong)}; it has {sorted(known)}')
    seeds = {run.seed for run in args.loaded.runs if not args.rows or run.row in args.rows}
    if args.seeds and not seeds.intersection(args.seeds):
        parser.error(f'--seeds: {args.study} has none of {args.seeds}; it has {sorted(seeds)}')
    return args


def result_of(args, run):
    """Of a run: from its folder, or from a table that has a run of the same config; or None."""
    known = args.known.get(run.hash)
    if run.result or run.stale or not known or run.is_of_other_weights(known):
        return run.result
    return known | dict(row=run.row, seed=run.seed)


def report(args):
    """Write the tables and the picture of all runs that are complete."""
    results = [result for run in args.loaded.runs if (result := result_of(args, run))]
    if not results:
        return 'Nothing is complete yet.'
    args.tables.mkdir(parents=True, exist_ok=True)
    name, baseline = args.loaded.name, args.loaded.baseline
    order = list(dict.fromkeys(run.row for run in args.loaded.runs))
    results.sort(key=lambda result: (order.index(result['row']), result['seed']))
    table, curves = args.tables / f'{name}.csv', args.tables / f'{name}_curves.csv'
    hashes = {result['config_hash'] for result in results}
    lost = [r for r in read_csv(table) if r['config_hash'] not in hashes] if table.is_file() else []
    if lost:
        kept = [set_aside(file) for file in (table, curves)]
        print(
            f'{table} has {len(lost)} lines of other configs, or checkpoints, than the study now '
            f'has: dropped; the table as it was is {kept[0]} now',
            flush=True,
        )
    # What a table has of runs whose folders are gone stays.
    earlier = [args.known.get(result['config_hash']) for result in results]
    kept = {name for result in filter(None, earlier) for name in result['metrics']}
    write_csv(table, results, kept.union(args.metrics or ()))
    write_curves(curves, results, args.curve)
    # As a reader of the tables would: everything below comes from them.
    return write_report(table, baseline, args.metrics)


def run_all(args, runs):
    """Run them in processes of their own, several at once; those that failed, by name.

    Interrupted, it ends those that run, and starts no other.
    """
    gpus, children, interrupted = Queue(), set(), threading.Event()
    for number in range(args.jobs):
        gpus.put(number)
    # Those that this process may use: fewer than the machine has, under Slurm or in a container.
    allowed = getattr(os, 'sched_getaffinity', lambda _: range(os.cpu_count() or 1))(0)
    threads = max(1, len(allowed) // args.jobs)
    failed, started = {}, time.monotonic()

    def work(run):
        slot = gpus.get()
        try:
            return None if interrupted.is_set() else train(run, slot)
        finally:
            gpus.put(slot)

    def train(run, slot):
        env = dict(os.environ, OMP_NUM_THREADS=os.environ.get('OMP_NUM_THREADS', str(threads)))
        if torch.cuda.is_available():
            env['CUDA_VISIBLE_DEVICES'] = visible_gpu(slot)
        command = [sys.executable, __file__, str(args.study), '--out', str(args.out)]
        # Not by its name, which may begin with a dash.
        command += ['--worker', folder_name(run.row), str(run.seed)]
        if args.cfg_options:
            command += ['--cfg-options', *args.raw_cfg_options]
        env[PIPE], env[HASH] = '1', run.hash
        run.folder.mkdir(parents=True, exist_ok=True)
        with open(run.folder / 'log.txt', 'a', encoding='utf-8') as log:
            streams = dict(stdin=subprocess.PIPE, stdout=log, stderr=subprocess.STDOUT)
            child = subprocess.Popen(command, env=env, **streams)
            children.add(child)
            if interrupted.is_set():
                child.terminate()
            return child.wait()

    def outcome(run, future):
        if future.exception():
            return f'FAILED: {future.exception()}'
        if future.result() or not run.result:
            return f'FAILED, see {run.folder / "log.txt"}'
        metrics = run.result['metrics']
        shown = [key for key in args.metrics or headline(metrics) if key in metrics]
        return ', '.join(f'{key} {metrics[key]:.3f}' for key in shown) or 'no metrics'

    pool = ThreadPoolExecutor(args.jobs)
    try:
        futures = {pool.submit(work, run): run for run in runs}
        for number, future in enumerate(as_completed(futures), 1):
            run = futures[future]
            minutes = (time.monotonic() - started) / 60
            # In rounds of as many as run at once.
            rounds = -(-len(runs) // args.jobs) / -(-number // args.jobs)
            left = minutes * (rounds - 1)
            what, text = f'{run.row}, seed {run.seed}', outcome(run, future)
            if text.startswith('FAILED'):
                failed[what] = text
            print(f'[{number}/{len(runs)}, {left:.0f} min left] {what}: {text}', flush=True)
            try:
                report(args)
            except (OSError, ValueError) as error:  # the others go on; there is one at the end
                print(f'No report: {error}', flush=True)
    except BaseException:
        interrupted.set()
        for child in list(children):
            child.terminate()
        raise
    finally:
        pool.shutdown(cancel_futures=True)
    return failed


def visible_gpu(slot):
    """The GPU of a slot, by the name that it has for CUDA, of those that the user lets us see."""
    given = os.environ.get('CUDA_VISIBLE_DEVICES')
    gpus = given.split(',') if given else [str(i) for i in range(torch.cuda.device_count())]
    return gpus[slot % len(gpus)]


def end_with_parent():
    """End this process when the study that started it has been killed.

    Else it would train on, and stand in the way of the study when that is started again.
    """

    def wait():
        # Not sys.stdin: processes that load data are forked, and would wait for its lock for ever.
        while os.read(0, 1):
            pass
        os._exit(1)

    # On Windows a process that loads data would wait for ever for the pipe that this one reads.
    if PIPE in os.environ and os.name == 'posix':
        threading.Thread(target=wait, daemon=True).start()


def main(args=None):
    args = parse_args(args)
    if args.worker:
        end_with_parent()
        avoid_mps()
        row, seed = args.worker
        wanted = (folder_name(row), seed)
        runs = (r for r in args.loaded.runs if (folder_name(r.row), str(r.seed)) == wanted)
        run = next(runs, None)
        if run is None or os.environ.get(HASH, run.hash) != run.hash:
            sys.exit(
                f'{args.study}, or a config of it, has been changed since the study was started: '
                'start it again'
            )
        carry_out(run)
        return
    chosen = [
        run
        for run in args.loaded.runs
        if (not args.rows or run.row in args.rows) and (not args.seeds or run.seed in args.seeds)
    ]
    missing = [] if args.report else [run for run in chosen if not result_of(args, run)]
    absent = {
        f'{run.row}, seed {run.seed}': f'there is no checkpoint {run.checkpoint_file}'
        for run in missing
        if run.checkpoint_file and not run.checkpoint_file.is_file()
    }
    for what, text in absent.items():
        print(f'{what}: {text}; train it first', flush=True)
    missing = [run for run in missing if f'{run.row}, seed {run.seed}' not in absent]
    try:
        make_folder(args.tables)
    except OSError as error:
        sys.exit(f'--tables: {error}')
    refuse_to_lose_curves(args)
    print(f'{len(chosen)} runs, {len(missing)} of them to do, {args.jobs} at once', flush=True)
    for run in missing:
        if run.former:
            print(
                f'{run.row}, seed {run.seed}: was run with another config; what that left goes to '
                f'{run.aside}'
            )
    try:
        failed = absent | run_all(args, missing)
        print(f'\n{report(args)}\n\nTables and picture: {args.tables}')
    except KeyboardInterrupt:
        sys.exit('Interrupted. The same command goes on where it stopped.')
    except (OSError, ValueError) as error:
        sys.exit(str(error))
    if failed:
        sys.exit(f'{len(failed)} runs failed: {failed}')


def set_aside(file):
    """A copy of a table under the first name that is free; or None, if there is no table."""
    if not file.is_file():
        return None
    names = (file.with_suffix(f'.csv.{number}') for number in itertools.count(1))
    copy = next(name for name in names if not name.exists())
    shutil.copyfile(file, copy)
    return copy


def refuse_to_lose_curves(args):
    """The folders may be gone, and the table have curves of another metric than is asked for."""
    curves = args.tables / f'{args.loaded.name}_curves.csv'
    if not curves.is_file():
        return
    known = curve_metric(curves)
    gone = [run for run in args.loaded.runs if not run.result and result_of(args, run)]
    if not gone or known in (args.curve, 'none'):
        return
    if args.curve:
        sys.exit(
            f'{curves} has the {known} of {len(gone)} runs whose folders are gone: '
            f'--curve {args.curve} would lose it; give another folder for --tables'
        )
    args.curve = known


if __name__ == '__main__':
    main()
