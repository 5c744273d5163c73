"""Runs every command of the documentation, as a reader would, on small data.

python -m tests.run_documentation
python -m tests.run_documentation docs/deploy.md docs/darknet.md --keep work_dirs/documentation
python -m tests.run_documentation --only quantize        the pages with it, up to that command

Each page gets a copy of the project with photos, data sets and weights beside it
(tests/documentation_files.py); its commands run there one after the other, in one shell, with the
Python and the installed package of this process. What is changed before, and what is left out and
why, stands in REPLACED and LEFT_OUT: most trainings have one epoch. tests/test_docs.py tries the
options of the commands as they are printed. About half an hour on two CPU cores; with --keep, which
needs 5 GB, each page's output is in a log beside its copy.
"""

import argparse
import importlib.util
import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from .documentation import PAGES, commands, commands_in_tables

NEEDED = ('gradio', 'imagecorruptions', 'onnx', 'onnxruntime', 'onnxscript', 'optuna')

# What stands for something of the reader's, and what makes a command short. In this order.
EPOCH = '--cfg-options train_cfg.max_epochs=1'
REPLACED = [
    (r'(configs/bccd/yolov2_fl.py) CHECKPOINT', r'\1 work_dirs/yolov2_fl/epoch_1.pth'),
    (r'(?<!\$)\bCONFIG\b(?!=)', 'configs/yolov2_fl.py'),
    (r'(?<!\$)\bCHECKPOINT\b(?!=)', 'work_dirs/demo/epoch_3.pth'),
    (r'\bNAME(?=[._])', 'yolov2_fl'),
    (r'A\.py B\.py', 'configs/yolov2_fl.py configs/yolov2_ce.py'),
    (r'A\.pth', 'work_dirs/demo/epoch_3.pth'),
    (r'RUN/TIME', '$(ls -d work_dirs/yolov2_fl/2*/ | head -n 1)'),
    (r'epoch_80\.pth', 'epoch_1.pth'),
    (r'^make demo', 'python tools/demo.py'),
    (r'tools/train\.py configs/(bccd|mine).*', rf'\g<0> {EPOCH}'),
    (
        r'tools/train\.py configs/voc0712/yolov2_faithful.*',
        r'\g<0> --cfg-options train_cfg.max_iters=2 train_cfg.val_interval=2 '
        r'train_dataloader.batch_size=1 train_dataloader.num_workers=1',
    ),
    (
        r'(dist_train\.sh .*) 8 (--auto-scale-lr)$',
        rf'\1 2 \2 {EPOCH} train_dataloader.batch_size=2 train_dataloader.num_workers=1',
    ),
    # MMDetection's tools stumble where nothing is found.
    (r'\$MIM/tools/train\.py.*', r'\g<0> --cfg-options model.test_cfg.score_thr=0.0'),
    (r'test_robustness\.py.*', r'\g<0> model.test_cfg.score_thr=0.0'),
    (r'tools/tune_focal\.py.*', rf'\g<0> --trials 2 {EPOCH}'),
    (r'tools/study\.py.*', rf"\g<0> --rows 'cross entropy' focal --seeds 0 {EPOCH}"),
    (r'tools/benchmark\.py.*', r'\g<0> --repeat 1'),
    (r'tools/benchmark_focal_loss\.py.*', r'\g<0> --repeat 1 --anchors 1000'),
    (
        r'tools/benchmark_training\.py.*',
        r'\g<0> --repeat 1 --images 2 --step-repeat 1 --step-images 1 --step-size 96',
    ),
    (r'tests/faults/long_run\.py.*', r'\g<0> --iterations 500'),
    # It would wait for visitors: one comes, then Ctrl-C, which jobs take with `set -m` only.
    (
        r'python tools/web_demo\.py.*',
        r'set -m; \g<0> --port $PORT & set +m; until curl --silent --fail --output page.html '
        r'127.0.0.1:$PORT; do sleep 1; kill -0 $! || break; done; '
        r'grep -qi gradio page.html && kill -INT $! && wait $!',
    ),
    # What is needed is there already, or nothing would run: pip finds it, without the internet.
    # (Its build backend fetches one more package for -e.)
    (r'^pip install -e \.', 'pip install . --dry-run --no-index --no-deps --no-build-isolation'),
    (r"^pip install ('mmdet_yolo2fl\[|imagecorruptions).*", r'\g<0> --dry-run --no-index'),
    (r'pytest tests/fuzz tests/faults', r'\g<0> --collect-only --quiet'),
    (r'tests\.faults\.kill_and_resume', r'\g<0> --jobs darknet2coco'),
]
LEFT_OUT = {
    r'^make (env|test)': 'run by .ci/run',
    r'^source \.venv/bin/activate': 'is of `make env`',
    r'predict\.py \S+ \S+ 0 --show': 'needs a camera and a screen',
}
# What a page takes for granted.
BEFORE = {
    'analyze.md': [
        'python tools/train.py configs/yolov2_fl.py',
        'python tools/train.py configs/yolov2_ce.py --cfg-options train_cfg.max_epochs=1',
        'python tools/test.py configs/yolov2_fl.py work_dirs/yolov2_fl/epoch_3.pth --out found.pkl',
    ],
    'darknet_data.md': ['cp obj.data data/'],
}


def left_out(line: str) -> str | None:
    """Why it is not run."""
    return next((why for pattern, why in LEFT_OUT.items() if re.search(pattern, line)), None)


def prepared(line: str) -> str | None:
    """As it is run, or None if it is left out."""
    if left_out(line):
        return None
    for pattern, text in REPLACED:
        line = re.sub(pattern, text, line)
    return line


def lines_of(page: Path) -> list[str]:
    """Its commands as printed; those in tables behind the first block, which names their files."""
    shown = commands(page)
    if page.name == 'mmdetection_tools.md':
        last = next(i for i, line in enumerate(shown) if line.startswith('pip'))
        shown[last:last] = commands_in_tables(page)
    return shown


def free_port() -> int:
    with socket.create_server(('127.0.0.1', 0)) as server:
        return server.getsockname()[1]


def run_lines(lines: list[str], folder: Path, log: Path) -> Iterator[tuple[int, int]]:
    """Exit code and seconds of each, as they end, run one after the other in one shell."""
    # The shell's own output is the exit codes; that of the commands goes the way of its errors.
    script = [
        f'echo {shlex.quote("$ " + line)} >&2; SECONDS=0\n{{ {line}\n}} >&2\necho $? $SECONDS'
        for line in lines
    ]
    env = dict(
        os.environ,
        PATH=f'{folder / "bin"}{os.pathsep}{os.environ["PATH"]}',
        PYTHONPATH='',
        PORT=str(free_port()),
        MMDET_YOLO2FL_DATA=str(folder / 'embedded'),
        CUDA_VISIBLE_DEVICES=os.environ.get('CUDA_VISIBLE_DEVICES', '-1'),
    )
    shell = ['bash', '-c', '\n'.join(script)]
    with open(log, 'w') as output:
        streams = dict(stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=output)
        with subprocess.Popen(shell, cwd=folder, env=env, text=True, **streams) as process:
            for _ in lines:
                # Nothing comes any more when one has ended the shell.
                code, seconds = (process.stdout.readline() or '1 0').split()
                yield int(code), int(seconds)


def make_template(folder: Path) -> None:
    """A copy of the project with files beside it, and the demo's checkpoint."""
    from .documentation_files import make_project

    make_project(folder)
    lines = ['python tools/demo.py']
    lines += [
        f'python tools/coco2darknet.py train.json photos data/darknet --split {split}'
        for split in ('train', 'valid')
    ]
    lines += ['cp data/darknet/obj.data obj.data']
    log = folder.with_name('preparation.log')
    if sum(code for code, _ in run_lines(lines, folder, log)):
        sys.exit(f'The preparation failed:\n{last_lines(log)}')


def last_lines(log: Path, number: int = 20) -> str:
    """Of a log that may hold progress bars, which are a single long line."""
    lines = log.read_text('utf-8', errors='replace').replace('\r', '\n').splitlines()[-number:]
    return '\n'.join(f'         | {line[-200:]}' for line in lines)


def run_page(page: Path, shown: list[str], folder: Path) -> list[str]:
    """Run its commands, print a line for each; what became of each."""
    copy, log = folder / page.stem, folder / f'{page.stem}.log'
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(folder / 'template', copy)
    before = BEFORE.get(page.name, [])
    results = run_lines(before + [line for line in map(prepared, shown) if line], copy, log)
    states = []
    for line in before + shown:
        reason = None if line in before else left_out(line)
        code, seconds = (None, 0) if reason else next(results)
        states.append('left out' if reason else 'FAILED' if code else 'ok')
        reason = f'  ({reason})' if reason else ''
        print(f'{states[-1]:8} {seconds:4} s  {page.name}: {line}{reason}', flush=True)
        if code:
            print(last_lines(log), flush=True)
    return states


def chosen_lines(page: Path, only: str) -> list[str]:
    """Its lines up to the last one with the text: that one may need those before it."""
    lines = lines_of(page)
    return lines[: max((i + 1 for i, line in enumerate(lines) if only in line), default=0)]


def main(args=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('pages', nargs='*', type=Path, help='default: all')
    parser.add_argument('--only', default='', metavar='TEXT', help='pages up to a command with it')
    parser.add_argument('--keep', type=Path, help='folder of the copies (default: a temporary one)')
    parser.add_argument('--list', action='store_true', help='print the commands as they are run')
    args = parser.parse_args(args)
    pages = [page.resolve() for page in args.pages] or PAGES
    for page in pages:
        if page not in PAGES:
            parser.error(f'{page}: no page of the documentation')
    chosen = {page: lines for page in pages if (lines := chosen_lines(page, args.only))}
    if not chosen:
        parser.error(f'No command of these pages has {args.only!r}')
    if args.list:
        for page, lines in chosen.items():
            for line in lines:
                print(f'{page.name}: {prepared(line) or f"{line}  ({left_out(line)})"}')
        return
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        parser.error(f"{missing} are not installed: pip install -e '.[dev,web]' imagecorruptions")
    # What an earlier run left is deleted: nothing else may be.
    other = args.keep and args.keep.exists() and not (args.keep / 'template').is_dir()
    if other and (args.keep.is_file() or any(args.keep.iterdir())):
        parser.error(f'--keep: {args.keep} is neither empty nor from an earlier run')
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as temporary:
        folder = (args.keep or Path(temporary)).resolve()
        shutil.rmtree(folder / 'template', ignore_errors=True)
        (folder / 'template').mkdir(parents=True)
        make_template(folder / 'template')
        states = {}
        for page, lines in chosen.items():
            states[page.name] = run_page(page, lines, folder)
            if not args.keep:
                shutil.rmtree(folder / page.stem)
    counts = Counter(state for page in states.values() for state in page)
    minutes = (time.monotonic() - start) / 60
    print(', '.join(f'{n} {state}' for state, n in counts.items()), f'in {minutes:.0f} minutes')
    failed = [name for name, page in states.items() if 'FAILED' in page]
    if failed:
        where = f'see {args.keep}/*.log' if args.keep else '--keep FOLDER leaves their output'
        sys.exit(f'Commands of {failed} failed; {where}')


if __name__ == '__main__':
    main()
