"""What MMEngine logs of a run, one file for each start."""

import json
from collections.abc import Iterator
from pathlib import Path

# In a work directory.
SCALARS = '*/vis_data/scalars.json'


def is_metric(key: str) -> bool:
    """Whether a name is that of a validation; FocalLossAnalysisHook's belong to the training."""
    return '/' in key and not key.startswith('focal/')


def logged_scalars(folder: Path) -> Iterator[dict]:
    """What was logged in all starts of a run, in their order."""
    for file in sorted(folder.glob(SCALARS)):
        yield from read_scalars(file)


def read_scalars(file: Path) -> Iterator[dict]:
    """One dict for each line, with its ``step``; a line that a kill has cut off is left out."""
    for line in file.read_bytes().splitlines():
        try:
            row = json.loads(line)
        except ValueError:
            continue
        if isinstance(row, dict) and 'step' in row:
            yield row
