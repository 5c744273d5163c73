"""Annotation files of strangers, and sizes of images, read with errors that name them."""

import json
import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from pathlib import Path

import cv2
import mmcv
import numpy as np
from mmengine.fileio import list_from_file
from PIL import Image, UnidentifiedImageError

ORIENTATION = 0x0112  # the EXIF tag
# By which share a side of an image may differ from its annotation.
TOLERANCE = 0.05
# What Pillow says of files that are no images, or would be too large in memory.
UNREADABLE = (
    UnidentifiedImageError, Image.DecompressionBombError, OSError, ValueError, SyntaxError,
)  # fmt: skip


def image_size(path: str | Path) -> tuple[int, int, int]:
    """Width and height as MMCV will load an image, and how its EXIF data turn it.

    Returns:
        tuple[int, int, int]: The last is EXIF's orientation if it is followed: 2 to 4 mirror the
        image or turn it upside down, 5 to 8 lay it on its side; else 0.

    Raises:
        UNREADABLE: If it is no image that Pillow reads, and, of large ones, OpenCV.
    """
    try:
        with Image.open(path) as image:
            width, height = image.size
            # Pillow's own of a PNG looks for a note behind the pixels, and decodes them all.
            getexif = Image.Image.getexif if image.format == 'PNG' else type(image).getexif
            orientation = getexif(image).get(ORIENTATION, 1)
    except Image.DecompressionBombError:  # OpenCV reads larger ones
        image = _by_opencv(path)
        if image is None:
            raise
        return *image.shape[1::-1], 0
    if orientation not in range(2, 9):
        return width, height, 0
    # It depends on the format and on the place of the note whether OpenCV follows it.
    loaded = mmcv.imread(path)
    if loaded is None:
        raise UnidentifiedImageError(f'{path}: is no image, or a damaged one')
    size = loaded.shape[1::-1]
    if orientation < 5:
        followed = not np.array_equal(loaded, mmcv.imread(path, 'color_ignore_orientation'))
    else:
        followed = size != (width, height) or width == height
    return *size, orientation if followed else 0


def stored_size(path: str | Path) -> tuple[int, int] | None:
    """Width and height without what EXIF says; None if Pillow cannot tell."""
    try:
        with Image.open(path) as image:
            return image.size
    except UNREADABLE:
        return None


def check_lies_as_annotated(
    path: str | Path, annotated: tuple[int, int], loaded: tuple[int, int] | None = None
) -> bool:
    """Refuse an image that EXIF has laid across its annotation, or that has another size.

    Args:
        path (str | Path): Its file.
        annotated (tuple[int, int]): Width and height in the annotation.
        loaded (tuple[int, int], optional): Width and height as it was loaded. Defaults to those
            by MMCV's ``color_type='color'``, which follows EXIF.

    Returns:
        bool: Whether that can be told: False where EXIF turns the image upside down, mirrors it,
        or turns a square one, since its size stays; and where width and height are exchanged in
        the annotation, or the image was turned since. (Not if ``loaded`` is given.)

    Raises:
        ValueError: If it was loaded lying, and is annotated as EXIF turns it; if EXIF exchanges
            width and height, and the annotation does not; or if a side differs by more than 5 % (a
            pixel or two is nothing, and common), but not if they are exchanged in the annotation
            alone, whose boxes may be right.
    """
    if loaded is not None and tuple(loaded) == tuple(annotated):
        return True
    try:
        width, height, turned = image_size(path)
    except UNREADABLE:  # by Pillow, or it is not here; whoever loads it will say more
        return True
    if loaded not in (None, (width, height)) and (width, height) == tuple(annotated):
        raise ValueError(
            f'{path}: lies across its annotation, which is of {width}x{height}, as a camera has '
            'noted in EXIF to turn it; its color_type leaves it so. Load it by color_type="color"'
        )
    exchanged = width != height and (height, width) == tuple(annotated)
    if turned >= 5 and exchanged:
        raise ValueError(
            f'{path}: lies across its annotation, which says {height}x{width} where '
            f'{width}x{height} are loaded: a camera has noted in EXIF how to turn it, so that its '
            'boxes would be elsewhere. Turn the boxes too, or take that note away'
        )
    ratios = width / annotated[0], height / annotated[1]
    if not exchanged and max(abs(ratio - 1) for ratio in ratios) > TOLERANCE:
        raise ValueError(
            f'{path}: has {width}x{height} pixels, but its annotation is of '
            f'{annotated[0]:g}x{annotated[1]:g}: if the image was resized since, its boxes are '
            'elsewhere; take the one that was annotated, or correct the annotation'
        )
    if loaded is not None:
        return True
    return not exchanged and (not turned or (turned >= 5 and width != height))


def opencv_reads(path: str | Path) -> bool:
    """Whether MMCV's ``imread`` makes an image of a file."""
    return _by_opencv(path) is not None


def _by_opencv(path: str | Path) -> np.ndarray | None:
    try:
        return mmcv.imread(path)
    except cv2.error:  # too large
        return None


def read_names(path: Path) -> list[str]:
    """The lines of one of Pascal VOC's lists of images.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is no text, or empty, or if a line has no name, or a byte order mark.
    """
    if not path.is_file():
        raise FileNotFoundError(f'{path}: there is no such list of images')
    try:
        names = list_from_file(path)
    except UnicodeDecodeError as error:
        raise ValueError(f'{path}: byte {error.start} is no text') from error
    if not names:
        raise ValueError(f'{path}: lists no image')
    for number, name in enumerate(names, 1):
        if not name.strip():
            raise ValueError(f'{path}: line {number} names no image: delete it')
        if name.startswith('\ufeff'):
            raise ValueError(f'{path}: begins with a byte order mark: save it as UTF-8 without')
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
