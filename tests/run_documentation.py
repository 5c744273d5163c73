"""Runs every command of the documentation, as a reader would, on small data.

python -m tests.run_documentation
python -m tests.run_documentation docs/deploy.md docs/darknet.md --keep work_dirs/documentation

Each page gets a copy of the project with photos, data sets and weights beside it
(tests/documentation_files.py); its commands run there one after the other, in one shell. What is
changed before, and what is left out and why, stands in REPLACED and LEFT_OUT: most
trainings have one epoch. tests/test_docs.py tries the options of the commands as they are printed.
About 25 minutes on two CPU cores; the outputs are in the folder of the copies.
"""

import argparse
import importlib.util
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from .documentation import PAGES, ROOT, commands, commands_in_tables

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
        r'tools/train\.py configs/voc0712/yolov2_darknet.*',
        r'\g<0> --cfg-options train_cfg.max_iters=2 train_cfg.val_interval=2 '
        r'train_dataloader.batch_size=1 train_dataloader.num_workers=1',
    ),
    (
        r'(dist_train\.sh .*) 8$',
        rf'\1 2 {EPOCH} train_dataloader.batch_size=2 train_dataloader.num_workers=1',
    ),
    (r'tools/tune_focal\.py.*', rf'\g<0> --trials 2 {EPOCH}'),
    (r'tools/study\.py.*', rf"\g<0> --rows 'cross entropy' focal --seeds 0 {EPOCH}"),
    (r'tools/benchmark\.py.*', r'\g<0> --repeat 1'),
    (r'tools/benchmark_focal_loss\.py.*', r'\g<0> --repeat 1 --anchors 1000'),
    (
        r'tools/benchmark_training\.py.*',
        r'\g<0> --repeat 1 --images 2 --step-repeat 1 --step-images 1 --step-size 96',
    ),
    (r'tests/faults/long_run\.py.*', r'\g<0> --iterations 400'),
    # It would wait for visitors: one comes, and then it is stopped.
    (
        r'python tools/web_demo\.py.*',
        r'\g<0> --port 7871 & until curl --silent --fail --output page.html 127.0.0.1:7871; '
        r'do sleep 1; kill -0 $! || break; done; grep -qi gradio page.html && kill $!',
    ),
]
LEFT_OUT = {
    r'^make (env|test)': 'run by .ci/run',
    r'^pip install': 'would change what is installed',
    r'predict\.py \S+ \S+ 0 --show': 'needs a camera and a screen',
    r'pytest tests/fuzz tests/faults': 'a part of make test',
    r'kill_and_resume': 'ten minutes by itself',
}
# What a page takes for granted.
BEFORE = {
    'analyze.md': [
        'python tools/train.py configs/yolov2_fl.py',
        'python tools/test.py configs/yolov2_fl.py work_dirs/yolov2_fl/epoch_3.pth --out found.pkl',
    ],
    'darknet_data.md': ['cp obj.data data/'],
}
# The embedded scenes, cut down.
SMALL = """
train_dataloader['dataset'].update(num_images=16)
val_dataloader['dataset'].update(num_images=8)
"""
# Stands for the one file that a page fetches: random numbers.
WGET = """#!/bin/sh
test "$1 $3" = "-P https://pjreddie.com/media/files/darknet19_448.conv.23" || exit 1
cd {root} && {python} -c "
from pathlib import Path
from tests.documentation_files import write_darknet19
write_darknet19(Path('$OLDPWD', '$2', 'darknet19_448.conv.23'))"
"""


def prepared(line: str) -> str | None:
    """As it is run, or None if it is left out."""
    if any(re.search(pattern, line) for pattern in LEFT_OUT):
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


def run_lines(lines: list[str], folder: Path, log: Path) -> list[tuple[int, int]]:
    """Exit code and seconds of each, run one after the other in one shell."""
    script = [
        f'echo {shlex.quote("$ " + line)}; SECONDS=0\n{line}\necho $? $SECONDS >&3'
        for line in lines
    ]
    results = folder / 'exit_codes'
    env = dict(
        os.environ,
        PATH=f'{folder / "bin"}{os.pathsep}{os.environ["PATH"]}',
        PYTHONPATH='',
        MMDET_YOLO2FL_DATA=str(folder / 'embedded'),
        CUDA_VISIBLE_DEVICES=os.environ.get('CUDA_VISIBLE_DEVICES', '-1'),
    )
    with open(log, 'w') as output, open(results, 'w') as codes:
        shell = ['bash', '-c', f'exec 3>&{codes.fileno()}\n' + '\n'.join(script)]
        streams = dict(stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT)
        subprocess.run(shell, cwd=folder, env=env, pass_fds=[codes.fileno()], **streams)
    found = [tuple(map(int, line.split())) for line in results.read_text().splitlines()]
    return found + [(1, 0)] * (len(lines) - len(found))  # one has ended the shell


def make_template(folder: Path) -> None:
    """A copy of the project with files beside it, and the demo's checkpoint."""
    from .documentation_files import write_files

    tracked = subprocess.run(
        ['git', 'ls-files'], cwd=ROOT, check=True, capture_output=True, text=True
    )
    for name in tracked.stdout.splitlines():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, folder / name)
    with open(folder / 'configs/_base_/datasets/tiny_traffic.py', 'a') as config:
        config.write(SMALL)
    (folder / 'bin').mkdir()
    for name, text in (
        ('python', f'#!/bin/sh\nexec {sys.executable} "$@"\n'),
        ('wget', WGET.format(root=ROOT, python=sys.executable)),
    ):
        (folder / 'bin' / name).write_text(text)
        (folder / 'bin' / name).chmod(0o755)
    write_files(folder)
    lines = ['python tools/demo.py']
    lines += [
        f'python tools/coco2darknet.py train.json photos data/darknet --split {split}'
        for split in ('train', 'valid')
    ]
    lines += ['cp data/darknet/obj.data obj.data']
    codes = run_lines(lines, folder, folder.with_name('preparation.log'))
    if any(code for code, _ in codes):
        sys.exit(f'The preparation failed: {folder.with_name("preparation.log")}')


def run_page(page: Path, folder: Path) -> bool:
    """Run its commands, print a line for each; whether all of them ended well."""
    copy, log = folder / page.stem, folder / f'{page.stem}.log'
    shown = lines_of(page)
    if not shown:
        return True
    shutil.copytree(folder / 'template', copy)
    before = BEFORE.get(page.name, [])
    chosen = [(line, prepared(line)) for line in shown]
    ready = before + [line for _, line in chosen if line]
    codes = iter(run_lines(ready, copy, log))
    good = all(next(codes)[0] == 0 for _ in before)
    if not good:
        print(f'FAILED   {page.name}: what comes before, see {log}', flush=True)
    for line, ready in chosen:
        code, seconds = next(codes) if ready else (None, 0)
        reason = next((why for what, why in LEFT_OUT.items() if re.search(what, line)), '')
        status = {None: 'left out', 0: 'ok'}.get(code, 'FAILED')
        good &= not code
        text = f'  ({reason})' if code is None else ''
        print(f'{status:8} {seconds:4} s  {page.name}: {line}{text}', flush=True)
    if not good:
        print(f'         see {log}', flush=True)
    return good


def main(args=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('pages', nargs='*', type=Path, help='default: all')
    parser.add_argument('--keep', type=Path, help='folder of the copies (default: a temporary one)')
    args = parser.parse_args(args)
    pages = [page.resolve() for page in args.pages] or PAGES
    for page in pages:
        if page not in PAGES:
            parser.error(f'{page}: no page of the documentation')
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        parser.error(f"{missing} are not installed: pip install -e '.[dev,web]' imagecorruptions")
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as temporary:
        folder = (args.keep or Path(temporary)).resolve()
        shutil.rmtree(folder / 'template', ignore_errors=True)
        (folder / 'template').mkdir(parents=True)
        make_template(folder / 'template')
        failed = []
        for page in pages:
            shutil.rmtree(folder / page.stem, ignore_errors=True)
            if not run_page(page, folder):
                failed.append(page.name)
    print(f'{(time.monotonic() - start) / 60:.0f} minutes')
    if failed:
        sys.exit(f'Commands of {failed} failed')


if __name__ == '__main__':
    main()
