"""Tables as text: CSV to be read again, Markdown to be looked at."""

import csv
import io
from collections.abc import Iterable
from pathlib import Path


def csv_text(head: Iterable[str], lines: Iterable[Iterable]) -> str:
    """A table of comma-separated values with its head; None is an empty cell."""
    stream = io.StringIO()
    csv.writer(stream, lineterminator='\n').writerows([list(head), *map(list, lines)])
    return stream.getvalue()


def read_table(file: Path) -> tuple[list[str], list[dict]]:
    """The columns and the lines of a CSV in UTF-8, also of one that a spreadsheet has written.

    Raises:
        OSError: If it cannot be read.
        ValueError: If it is no such table.
    """
    try:
        with open(file, newline='', encoding='utf-8-sig') as stream:
            reader = csv.DictReader(stream)
            return list(reader.fieldnames or ()), list(reader)
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f'{file}: no table of comma-separated values: {error}') from error


def markdown_table(head: Iterable[str], lines: Iterable[Iterable]) -> str:
    """A table with its head; a ``|`` in a cell stays in it."""
    head, *lines = [[str(cell).replace('|', '&#124;') for cell in line] for line in (head, *lines)]
    return '\n'.join(
        [f'| {" | ".join(head)} |', '|---' * len(head) + '|']
        + [f'| {" | ".join(line)} |' for line in lines]
    )
