"""Files read with a limit, and written all together or not at all."""

import os
from collections.abc import Mapping
from pathlib import Path

# Cfgs have some KB; what is larger is something else.
MAX_BYTES = 1 << 20


def read_text(path: str | Path, kind: str, errors: str = 'strict') -> str:
    """Text of a small UTF-8 file, with or without byte order mark.

    Args:
        path (str | Path): The file.
        kind (str): What it should be, for messages.
        errors (str): What becomes of bytes that are no UTF-8, as in ``bytes.decode``; but a byte
            of 0 is always one too many. Defaults to 'strict'.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is too large, or no text.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f'{path}: there is no such {kind}')
    if path.stat().st_size > MAX_BYTES:
        raise ValueError(f'{path}: larger than {MAX_BYTES} bytes: this is no {kind}')
    content = path.read_bytes()
    try:
        text = content.decode('utf-8-sig', errors)
    except UnicodeDecodeError as error:
        raise ValueError(
            f'{path}: byte {error.start} is no text, hence this is no {kind}'
        ) from error
    if '\0' in text and errors != 'strict':
        raise ValueError(f'{path}: byte {content.index(0)} is no text, hence this is no {kind}')
    return text


def write_all(contents: Mapping[Path, bytes]) -> None:
    """Write several files that belong together.

    All are brought to the disk under other names before the first is renamed, so a full disk or
    an interruption leaves what was there before.

    Args:
        contents (Mapping[Path, bytes]): The content of each file; missing folders are made.

    Raises:
        OSError: If one cannot be written; names it.
    """
    unfinished = {path: path.with_name(f'{path.name}.tmp') for path in contents}
    try:
        for path, temporary in unfinished.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            with open(temporary, 'wb') as file:
                file.write(contents[path])
                file.flush()
                os.fsync(file.fileno())
    except OSError as error:  # of a full disk, without the name of the file
        raise OSError(error.errno, error.strerror or str(error), str(path)) from error
    else:
        for path, temporary in unfinished.items():
            os.replace(temporary, path)
    finally:
        for temporary in unfinished.values():
            temporary.unlink(missing_ok=True)
