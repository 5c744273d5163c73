"""Annotation files of strangers, read with errors that name them."""

import json
import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from pathlib import Path


def read_coco(path: Path, lists: Sequence[str] = (), optional: Sequence[str] = ()) -> dict:
    """Read a COCO file.

    Args:
        path (Path): The file.
        lists (Sequence[str]): Keys that must be there and hold lists.
        optional (Sequence[str]): Keys that hold lists if they are there.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is no JSON object, or has no such lists.
    """
    if not path.is_file():
        raise FileNotFoundError(f'{path}: there is no such annotation file')
    try:
        content = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise ValueError(f'{path}: no JSON ({error})') from error
    if not isinstance(content, dict):
        raise ValueError(f'{path}: a COCO file is an object, this is a {type(content).__name__}')
    for key in (*lists, *(key for key in optional if key in content)):
        if not isinstance(content.get(key), list):
            raise ValueError(f'{path}: {key} is missing, or no list')
    return content


def read_xml(path: Path) -> ElementTree.Element:
    """Read an annotation of Pascal VOC.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is no XML, or defines entities, which can grow without a limit.
    """
    if not path.is_file():
        raise FileNotFoundError(f'{path}: there is no such annotation file')
    data = path.read_bytes()
    if b'<!ENTITY' in data:
        raise ValueError(f'{path}: defines entities, which annotations do not need: not read')
    try:
        return ElementTree.fromstring(data)
    except (ElementTree.ParseError, ValueError, LookupError) as error:
        raise ValueError(f'{path}: no XML ({error})') from error
