"""What a training has left behind: its config and its checkpoints."""

import json
import os
import re
from pathlib import Path

from ..checkpoints import read_pointer

CHECKPOINTS = ('best_*.pth', 'last_checkpoint', 'epoch_*.pth', 'iter_*.pth')


def find_runs(folder: Path) -> list[Path]:
    """The work directories of trainings that a folder stands for: itself, or those in it.

    Args:
        folder (Path): Of a training, or of several, as ``tools/study.py`` leaves them.

    Returns:
        list[Path]: Those of a study that have ended, also where one only evaluates a checkpoint.

    Raises:
        ValueError: If there is no such folder, or if it holds no run.
    """
    if folder.is_file():
        raise ValueError(
            f'{folder}: is a file, not the folder of a training. For a config and a checkpoint '
            'use --config and --checkpoint'
        )
    if not folder.is_dir():
        raise ValueError(f'{folder}: there is no such folder')
    if not any(folder.iterdir()):
        raise ValueError(f'{folder}: is empty. Name the work directory of a training')
    if any(found for pattern in ('*.py', *CHECKPOINTS) for found in folder.glob(pattern)):
        return [folder]
    inside = [Path(path) for path, _, names in os.walk(folder, followlinks=True) if _is_run(names)]
    # What a study has put aside of a run that it has made anew.
    inside = [
        run for run in inside if not (run.name.startswith('before_') and is_of_study(run.parent))
    ]
    runs = [run for run in inside if is_of_study(run, ended=True) or not is_of_study(run)]
    if inside and not runs:
        raise ValueError(f'{folder}: no run in it has ended yet: {", ".join(map(str, inside))}')
    return sorted(runs, key=_in_order) or [folder]


def _is_run(names: list[str]) -> bool:
    return 'result.json' in names or any(name.endswith('.pth') for name in names)


def is_of_study(run: Path, ended: bool = False) -> bool:
    """Whether ``tools/study.py`` has begun a run, or ended it."""
    return (run / 'config_hash').exists() and (not ended or (run / 'result.json').exists())


def study_result(run: Path) -> dict:
    """What ``tools/study.py`` has written of a run at its end; empty of others."""
    ended = is_of_study(run, ended=True)
    return json.loads((run / 'result.json').read_text('utf-8')) if ended else {}


def split_of(run: Path) -> str:
    """On which set of its config a run has its figures: 'val' of a training of a study, else
    'test'."""
    trained = is_of_study(run) and not study_result(run).get('checkpoint_digest')
    return 'val' if trained else 'test'


def _in_order(path: Path) -> list:
    """``seed_10`` after ``seed_2``."""
    return [(text, int(number or 0)) for text, number in re.findall(r'(\D+)(\d*)', f'/{path}')]


def find_config(folder: Path) -> Path:
    """The config that MMEngine's runner has written into its work directory; the latest.

    Raises:
        ValueError: If there is none.
    """
    found = list(folder.glob('*.py')) or list(folder.glob('*/vis_data/config.py'))
    if not found:
        raise ValueError(
            f'{folder}: has no config. Looked for *.py and */vis_data/config.py, which a training '
            'writes when it starts. Is it the work directory? Or give the config with --config'
        )
    return max(found, key=lambda path: path.stat().st_mtime)


def find_checkpoint(folder: Path) -> Path:
    """The best checkpoint of a work directory, or else its last.

    ``best_*.pth`` (the newest, if several metrics have one; not in a run of a study, whose figures
    are those of its last), the one that ``last_checkpoint`` names, the highest ``epoch_*.pth`` or
    ``iter_*.pth``.

    Raises:
        ValueError: If there is none.
    """
    best = list(folder.glob(CHECKPOINTS[0]))
    if best and not is_of_study(folder):
        return max(best, key=lambda path: path.stat().st_mtime)
    note = folder / 'last_checkpoint'
    if note.is_file():
        named = Path(read_pointer(note))
        # The folder may have been moved or copied since.
        for path in (folder / named.name, named):
            if path.is_file():
                return path
    numbered = [path for pattern in CHECKPOINTS[2:] for path in folder.glob(pattern)]
    if numbered:
        return max(numbered, key=lambda path: int(re.sub(r'\D', '', path.stem) or 0))
    if is_of_study(folder, ended=True):
        raise ValueError(
            f'{folder}: has no checkpoint. It evaluates that of another run, which can be named '
            'with --checkpoint, or its weights were not kept'
        )
    raise ValueError(
        f'{folder}: has no checkpoint. Looked for {", ".join(CHECKPOINTS)}. If the training was '
        'interrupted before its first one, start it again (tools/train.py CONFIG); or give a '
        'checkpoint with --checkpoint'
    )
