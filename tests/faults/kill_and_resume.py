"""Kills jobs at random moments, starts them again, and compares with undisturbed ones.

python -m tests.faults.kill_and_resume                      28 kills, some minutes
python -m tests.faults.kill_and_resume --jobs train export --seed 7

Prints a table: the job, when it was killed, what it left, and whether the restarted job made the
same files, weights bit for bit, without a temporary file left. Ends with an error if one did not.
"""

import argparse
import random
import shutil
import sys
import tempfile
from pathlib import Path

import torch

from .jobs import Jobs, kill, run, unfinished

# How often each job is killed.
KILLS = dict(
    train=8, draw=4, darknet2mmdet=3, mmdet2darknet=2, darknet2coco=2, coco2darknet=2, predict=2,
    export=3, run_study=2,
)  # fmt: skip


def kill_and_resume(jobs: Jobs, name: str, times: int, folder: Path, seed: int):
    """Kill a job in so many fresh folders; a row of the table for each."""
    job, log = getattr(jobs, name), folder / 'log.txt'
    folder.mkdir(parents=True)
    whole = run(lambda: job(folder / 'whole'), log)
    expected = jobs.result(name, folder / 'whole')
    rng = random.Random(f'{seed} {name}')
    for number in range(times):
        out = folder / f'killed_{number}'
        moment = rng.uniform(0.02, 0.98) * whole
        while not kill(lambda out=out: job(out), log, moment):
            # It was done already: the machine is faster now than it was before.
            shutil.rmtree(out)
            whole, moment = moment, rng.uniform(0.02, 0.98) * moment
        left = sorted(path.name for path in out.rglob('*.pth')) + unfinished(out)
        run(lambda out=out: job(out), log)
        yield dict(
            job=name,
            moment=moment,
            whole=whole,
            left=left,
            equal=jobs.result(name, out) == expected and bool(expected),
            unfinished=unfinished(out),
        )


def markdown(rows) -> str:
    lines = ['| job | killed after | left behind | equal afterwards |', '|---|---|---|---|']
    for row in rows:
        left = ', '.join(row['left'][:3]) or 'nothing'
        left += f' and {len(row["left"]) - 3} more' if len(row['left']) > 3 else ''
        outcome = 'yes' if row['equal'] and not row['unfinished'] else f'NO {row["unfinished"]}'
        when = f'{row["moment"]:.2f} of {row["whole"]:.2f} s'
        lines.append(f'| {row["job"]} | {when} | {left} | {outcome} |')
    return '\n'.join(lines)


def main(args=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--jobs', nargs='+', choices=KILLS, default=list(KILLS))
    parser.add_argument('--seed', type=int, default=0, help='of the moments')
    args = parser.parse_args(args)
    torch.set_num_threads(1)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        jobs = Jobs(folder / 'input')
        for name in args.jobs:
            for row in kill_and_resume(jobs, name, KILLS[name], folder / name, args.seed):
                rows.append(row)
                print(markdown([row]).splitlines()[-1], flush=True)
    print('\n' + markdown(rows))
    print(f'\n{len(rows)} kills')
    wrong = [row['job'] for row in rows if not row['equal'] or row['unfinished']]
    if wrong:
        sys.exit(f'not equal afterwards: {wrong}')


if __name__ == '__main__':
    main()
