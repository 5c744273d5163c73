"""Darknet's ``.cfg`` files: sections of options, read as text and never run."""

import math
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from .files import read_text

# Of a number in a list.
LARGEST = 1e30
# Options are copied into configs, which are programs: nothing that could mean something there.
OPTION = re.compile(r'(\w+)=((?:(?!\{\{).)*)')


class Section:
    """One section of a cfg: ``[name]`` and the options below it.

    Attributes:
        name (str): Without the brackets.
        path (Path): The file, for messages.
        line (int): Where the section starts, from 1 on.
        options (dict[str, str]): As they stand in the file.
    """

    def __init__(self, name: str, path: Path, line: int) -> None:
        self.name, self.path, self.line = name, path, line
        self.options: dict[str, str] = {}
        self._lines: dict[str, int] = {}

    def add(self, key: str, value: str, line: int) -> None:
        """Take an option. Darknet keeps the first of two, OpenCV the last: two are an error."""
        if key in self.options:
            self.fail(
                f'stands a second time at line {line}; Darknet takes the first, OpenCV the last: '
                'leave one',
                key,
            )
        self.options[key] = value
        self._lines[key] = line

    def fail(self, message: str, key: str | None = None) -> NoReturn:
        """Raise a ValueError that names the file, the line, the section and the option."""
        line = self._lines.get(key, self.line)
        option = '' if key is None else f' {key}={self.options.get(key, "")}'
        raise ValueError(f'{self.path}:{line}: [{self.name}]{option}: {message}')

    def integer(self, key: str, default: int | None = None, at_least: int = 0) -> int:
        """An option as an integer.

        Raises:
            ValueError: If it is none, or below ``at_least``; or missing without a default.
        """
        value = self._convert(key, default, int, 'an integer')
        if value < at_least:
            self.fail(f'must be at least {at_least}', key)
        return value

    def number(
        self,
        key: str,
        default: float | None = None,
        low: float = -math.inf,
        high: float = math.inf,
    ) -> float:
        """An option as a finite number from ``low`` to ``high``."""
        value = self._convert(key, default, float, 'a number')
        if not math.isfinite(value):
            self.fail('must be finite', key)
        if not low <= value <= high:
            self.fail(f'must lie in {low:g}..{high:g}', key)
        return value

    def numbers(self, key: str, kind: Callable = float) -> list:
        """A comma-separated option as finite numbers."""
        if key not in self.options:
            self.fail(f'{key}= is missing')
        try:
            values = [kind(item) for item in self.options[key].split(',') if item]
        except ValueError:
            self.fail('must be numbers with commas between them', key)
        # Also false of NaN; integers may be too large for a float.
        if not all(-LARGEST < value < LARGEST for value in values):
            self.fail(f'must be finite, and less than {LARGEST:g}', key)
        return values

    def _convert(self, key: str, default: Any, kind: Callable, what: str) -> Any:
        if key not in self.options:
            if default is None:
                self.fail(f'{key}= is missing')
            return default
        try:
            return kind(self.options[key])
        except ValueError:
            self.fail(f'must be {what}', key)


def read_cfg(path: str | Path) -> list[Section]:
    """The sections of a cfg in their order.

    Blanks are of no meaning in Darknet, also within a line; comments start with ``#`` or ``;``.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is no cfg.
    """
    path = Path(path)
    # Options are ASCII; comments come in any encoding.
    lines = read_text(path, 'cfg', errors='replace').splitlines()
    sections: list[Section] = []
    for number, line in enumerate(lines, 1):
        text = ''.join(line.split('#')[0].split(';')[0].split())
        if not text:
            continue
        if text.startswith('['):
            if not text.endswith(']') or len(text) < 3:
                raise ValueError(f'{path}:{number}: expected [section], got {line.strip()!r}')
            sections.append(Section(text[1:-1], path, number))
        elif not (option := OPTION.fullmatch(text)):
            raise ValueError(f'{path}:{number}: expected option=value, got {line.strip()!r}')
        elif not sections:
            raise ValueError(f'{path}:{number}: an option before the first [section]')
        else:
            sections[-1].add(option[1], option[2], number)
    if not sections:
        raise ValueError(f'{path}: empty, no [section] in it')
    return sections


def cfg_text(sections: Sequence[tuple[str, dict[str, Any]]]) -> str:
    """Text of a cfg from ``(name, options)`` pairs."""
    blocks = (
        f'[{name}]\n' + ''.join(f'{key}={value}\n' for key, value in options.items())
        for name, options in sections
    )
    return '\n'.join(blocks)
