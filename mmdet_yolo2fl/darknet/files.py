"""Small text files, read with a limit."""

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
            f'{path}: byte {error.start} is no UTF-8: save this {kind} as UTF-8 '
            '(iconv -f CP1252 -t UTF-8 OLD > NEW), or it is none'
        ) from error
    if '\0' in text and errors != 'strict':
        raise ValueError(f'{path}: byte {content.index(0)} is no text, hence this is no {kind}')
    return text
