"""Files that are there whole or not at all."""

import io
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryFile


def make_folder(folder: Path) -> None:
    """Make a folder, and see before the work that its results can be written there.

    Raises:
        OSError: If it cannot be made, or takes no files.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with TemporaryFile(dir=folder):
        pass


def write_all(contents: Mapping[Path, bytes], durable: bool = True) -> None:
    """Write several files that belong together.

    All are brought to the disk under other names before the first is renamed, so a full disk or
    an interruption leaves what was there before.

    Args:
        contents (Mapping[Path, bytes]): The content of each file; missing folders are made.
        durable (bool): Wait for the disk, so that even a power cut leaves no half of a file.
            Without, a process that is killed leaves none. Defaults to True.

    Raises:
        OSError: If one cannot be written; names it, or the folder that cannot be made.
    """
    for path in contents:
        path.parent.mkdir(parents=True, exist_ok=True)
    # Fixed names: what a killed process left behind is overwritten by the next.
    unfinished = {path: path.with_name(f'{path.name}.tmp') for path in contents}
    try:
        for path, temporary in unfinished.items():
            with open(temporary, 'wb') as file:
                file.write(contents[path])
                if durable:
                    file.flush()
                    os.fsync(file.fileno())
    except OSError as error:  # of a full disk, without the name of the file
        raise OSError(error.errno, error.strerror or str(error), str(path)) from error
    else:
        for path, temporary in unfinished.items():
            os.replace(temporary, path)
    finally:
        for temporary in unfinished.values():
            with suppress(OSError):  # there is one already, or none
                temporary.unlink(missing_ok=True)


def write_bytes(path: str | Path, content: bytes, durable: bool = True) -> None:
    """Write one file as :func:`write_all` does."""
    write_all({Path(path): content}, durable)


def write_text(path: str | Path, text: str) -> None:
    """Write one text file in UTF-8 as :func:`write_all` does."""
    # The names of files, which it may hold, need not be text.
    write_bytes(path, text.encode('utf-8', 'backslashreplace'))


def write_png(path: str | Path, figure, dpi: int, **options) -> None:
    """Write Matplotlib's ``Figure`` as :func:`write_all` does, with options of its ``savefig``."""
    picture = io.BytesIO()
    figure.savefig(picture, dpi=dpi, format='png', **options)
    write_bytes(path, picture.getvalue())
