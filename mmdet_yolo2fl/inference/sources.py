"""What a user may point at: images, folders, patterns, videos, cameras."""

import glob
import itertools
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import cv2
import mmcv
import numpy as np
from mmdet.apis.det_inferencer import IMG_EXTENSIONS

VIDEO_EXTENSIONS = ('.mp4', '.avi', '.mov', '.mkv', '.webm', '.m4v', '.mpg', '.mpeg', '.wmv')


@dataclass(frozen=True)
class Source:
    """One image, video or camera.

    Attributes:
        name (str): For outputs: a relative path without suffix, used once only.
        path (str): The file, or the number of the camera.
        kind (str): 'image', 'video' or 'camera'.
    """

    name: str
    path: str
    kind: str


class Frame(NamedTuple):
    """One picture.

    Attributes:
        source (Source): Where it comes from.
        number (int): Its place in the video, from 0 on.
        image (np.ndarray): ``(H, W, 3)`` uint8, BGR.
        rate (float | None): Of the frames that are taken, a second; where a video does not say,
            it is taken to have 25. None for an image.
        seconds (float | None): Of a camera, since the first: what it shows while a picture is
            looked at is lost, so that its rate does not tell. None for all else.
    """

    source: Source
    number: int
    image: np.ndarray
    rate: float | None = None
    seconds: float | None = None


def find_sources(inputs: Sequence[str]) -> list[Source]:
    """The images, videos and cameras that some arguments stand for, in their order.

    Args:
        inputs (Sequence[str]): Files; folders, looked through with their subfolders; patterns
            (``'*.jpg'``, ``'**/*.png'``); numbers of cameras.

    Raises:
        ValueError: If an argument stands for nothing, or a file is neither image nor video.
    """
    found, names = [], set()
    for text in inputs:
        for path, name, kind in _expand(str(text)):
            unique = next(n for n in _numbered(name) if n.lower() not in names)
            names.add(unique.lower())  # some file systems know no capitals
            found.append(Source(unique, path, kind))
    return found


def _numbered(name: str) -> Iterator[str]:
    yield name
    for number in itertools.count(2):
        yield f'{name}_{number}'


def _expand(text: str) -> Iterator[tuple[str, str, str]]:
    """(path, name, kind) of what an argument stands for."""
    path = Path(text).expanduser()
    if path.is_dir():
        files = [p for p in sorted(path.rglob('*')) if p.is_file() and _kind(p)]
        if not files:
            raise ValueError(f'{text}: the folder holds neither images nor videos')
        for file in files:
            yield str(file), str(file.relative_to(path).with_suffix('')), _kind(file)
    elif path.is_file():
        if not _kind(path):
            raise ValueError(
                f'{text}: neither an image ({", ".join(IMG_EXTENSIONS)}) nor a video '
                f'({", ".join(VIDEO_EXTENSIONS)})'
            )
        yield str(path), path.stem, _kind(path)
    elif text.isdigit():
        yield text, f'camera_{text}', 'camera'
    elif glob.has_magic(text):
        # Without '..' in the middle, which would lead outputs elsewhere.
        matches = {Path(os.path.normpath(p)) for p in glob.glob(str(path), recursive=True)}
        files = [p for p in sorted(matches) if p.is_file() and _kind(p)]
        if not files:
            raise ValueError(f'{text}: no image or video fits this pattern')
        root = os.path.commonpath([file.parent for file in files])
        for file in files:
            yield str(file), str(file.relative_to(root).with_suffix('')), _kind(file)
    else:
        raise ValueError(f'{text}: there is no such file, folder, pattern or camera')


def _kind(path: Path) -> str | None:
    suffix = path.suffix.lower()
    if suffix in IMG_EXTENSIONS:
        return 'image'
    return 'video' if suffix in VIDEO_EXTENSIONS else None


def number_of_frames(source: Source) -> int | None:
    """How many there will be, as far as the file tells; None for a camera."""
    if source.kind == 'image':
        return 1
    if source.kind == 'camera':
        return None
    capture = cv2.VideoCapture(source.path)
    count = int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
    capture.release()
    return count if count > 0 else None


def frames(
    source: Source, step: int = 1, limit: int | None = None, flag: str = 'color'
) -> Iterator[Frame]:
    """Every frame of a source; of an image, the one.

    Args:
        source (Source): Of :func:`find_sources`.
        step (int): Every so many frames of a video or camera. Defaults to 1.
        limit (int, optional): How many of them at most.
        flag (str): Of ``mmcv.imread``, for an image. Defaults to 'color', which turns it as its
            EXIF note says.

    Raises:
        ValueError: If the file cannot be read, or not wholly, or there is no such camera.
    """
    if source.kind == 'image':
        yield Frame(source, 0, read_image(source.path, flag))
        return
    is_camera = source.kind == 'camera'
    capture = cv2.VideoCapture(int(source.path) if is_camera else source.path)
    try:
        rate = capture.get(cv2.CAP_PROP_FPS)
        rate = (rate if 0 < rate < 1000 else 25.0) / step
        start = None
        numbers = itertools.count() if limit is None else range(limit * step)
        for number in numbers:
            more, image = capture.read()
            if not more:
                break
            now = time.monotonic()
            start = start or now
            if number % step == 0:
                yield Frame(source, number, image, rate, now - start if is_camera else None)
        if number == 0 and not more:
            what = 'there is no such camera' if is_camera else 'no frame of it can be read'
            raise ValueError(f'{source.path}: {what}')
        # Some formats only estimate their length.
        whole = 0 if is_camera else int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
        if not more and number < 0.9 * whole:
            raise ValueError(
                f'{source.path}: ends after {number} frames, though it has {whole} by its header '
                '(cut off, or shortened without encoding it again); these are predicted'
            )
    finally:
        capture.release()


def read_image(path: str, flag: str = 'color') -> np.ndarray:
    """An image as a picture, ``(H, W, 3)`` uint8, BGR.

    Args:
        path (str): The file.
        flag (str): Of ``mmcv.imread``. Defaults to 'color'.

    Raises:
        ValueError: If it cannot be read, or if it is another kind of picture 'unchanged'.
    """
    try:
        image = mmcv.imread(path, flag)
    except Exception as error:  # whatever the file holds, one sentence must say so
        raise ValueError(f'{path}: cannot be read ({type(error).__name__}: {error})') from error
    if image is None:
        raise ValueError(f'{path}: is no image, or a damaged one')
    if image.shape[2:] != (3,) or image.dtype != np.uint8:
        raise ValueError(
            f"{path}: the config reads images 'unchanged', this one as {image.shape} of "
            f'{image.dtype}; here only three channels of 8 bits can be predicted. '
            'tools/test.py --show-dir takes what the config takes'
        )
    return image
