"""Annotation files of strangers, and sizes of images, read with errors that name them."""

import json
import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from pathlib import Path

from mmengine.fileio import list_from_file
from PIL import Image, UnidentifiedImageError

ORIENTATION = 0x0112  # the EXIF tag
# What Pillow says of files that are no images, or would be too large in memory.
UNREADABLE = (
    UnidentifiedImageError, Image.DecompressionBombError, OSError, ValueError, SyntaxError,
)  # fmt: skip


def image_size(path: Path) -> tuple[int, int, bool]:
    """Width and height as MMCV will load an image, and whether its EXIF data turn it on its side.

    Raises:
        UNREADABLE: If it is no image that Pillow reads.
    """
    with Image.open(path) as image:
        width, height = image.size
        turned = image.getexif().get(ORIENTATION, 1) >= 5
    return (height, width, True) if turned else (width, height, False)


def check_lies_as_annotated(size: tuple, annotated: tuple, path: str | Path) -> None:
    """Refuse an image that lies across its annotation.

    Args:
        size (tuple[int, int]): Width and height as it is loaded.
        annotated (tuple[int, int]): Of the annotation.
        path (str | Path): For the error.

    Raises:
        ValueError: If width and height are exchanged.
    """
    if tuple(size) != tuple(annotated) and tuple(size) == tuple(annotated)[::-1]:
        raise ValueError(
            f'{path}: lies across its annotation, which says {annotated[0]}x{annotated[1]} where '
            f'{size[0]}x{size[1]} are loaded, so that its boxes would be elsewhere. A camera has '
            'noted in EXIF how to turn it: turn the boxes too, or take that note away, or load '
            "images with color_type='color_ignore_orientation'"
        )


def read_names(path: Path) -> list[str]:
    """The lines of one of Pascal VOC's lists of images.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is no text, or empty.
    """
    if not path.is_file():
        raise FileNotFoundError(f'{path}: there is no such list of images')
    try:
        names = list_from_file(path)
    except UnicodeDecodeError as error:
        raise ValueError(f'{path}: byte {error.start} is no text') from error
    if not names:
        raise ValueError(f'{path}: lists no image')
    return names


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
        content = json.loads(path.read_text(encoding='utf-8'))  # as pycocotools reads it
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
