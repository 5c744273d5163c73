"""An image with its true and its predicted boxes, for the report."""

import base64

import cv2
import mmcv
import numpy as np
from mmengine import fileio

from .errors import KINDS, error_kinds
from .matches import Matches

LONGEST_SIDE = 900


def picture(
    matches: Matches,
    thresholds: np.ndarray,
    image: int,
    path: str,
    backend_args=None,
    flag: str = 'color',
) -> dict:
    """What the report needs to show an image.

    Args:
        matches (Matches): Of the data set.
        thresholds (np.ndarray): ``(C,)``, of the score of each class.
        image (int): Its position in the data set.
        path (str): Its file.
        backend_args (dict, optional): Of MMEngine's file backends.
        flag (str): Of ``mmcv.imfrombytes``, as the data set reads it.

    Returns:
        dict: ``source``, the image as a ``data:`` address, a JPEG of at most 900 pixels; ``width``
        and ``height`` of the original; ``boxes``, each with ``kind`` ('truth', 'ignored',
        'missed', 'right' or 'false'), ``x``, ``y``, ``width``, ``height`` in pixels of the
        original, ``label`` (may be empty) and ``title``; ``problem``, why it could not be read,
        or None: then it is a grey area.
    """
    boxes = _boxes(matches, thresholds, image)
    pixels, problem = _read(path, backend_args, flag)
    if pixels is None:
        extent = max([1.0, *(box['x'] + box['width'] for box in boxes)])
        height = max([1.0, *(box['y'] + box['height'] for box in boxes)])
        pixels = np.full((int(height) + 1, int(extent) + 1, 3), 128, np.uint8)
    height, width = pixels.shape[:2]
    scale = min(1, LONGEST_SIDE / max(height, width))
    small = mmcv.imrescale(pixels, scale) if scale < 1 else pixels
    _, data = cv2.imencode('.jpg', small, [cv2.IMWRITE_JPEG_QUALITY, 82])
    source = 'data:image/jpeg;base64,' + base64.b64encode(data.tobytes()).decode()
    return dict(source=source, width=width, height=height, boxes=boxes, problem=problem)


def _read(path: str, backend_args, flag: str) -> tuple[np.ndarray | None, str | None]:
    # What it reads unchanged, a network can take, but no picture show.
    flag = 'color_ignore_orientation' if flag == 'unchanged' else flag
    try:
        pixels = mmcv.imfrombytes(fileio.get(path, backend_args=backend_args), flag)
    except Exception as error:  # a report without one of its pictures is better than none
        return None, f'cannot be read ({type(error).__name__})'
    return pixels, None if pixels is not None else 'is no image'


def _boxes(matches: Matches, thresholds: np.ndarray, image: int) -> list[dict]:
    missed, kinds, iou = matches.missed(thresholds), error_kinds(matches, thresholds), matches.iou()
    boxes = []
    for number in np.flatnonzero(matches.truth_images == image):
        name = matches.classes[matches.truth_labels[number]]
        if matches.truth_ignored[number]:
            kind, title, label = 'ignored', f'{name}, ignored', ''
        elif missed[number]:
            kind, title, label = 'missed', f'{name}, missed', name
        else:
            kind, title, label = 'truth', f'{name}, found', ''
        boxes.append(_box(kind, matches.truth_boxes[number], label, title))
    shown = np.flatnonzero((matches.images == image) & matches.kept(thresholds))
    for number in shown[np.argsort(matches.scores[shown])]:
        name, score = matches.classes[matches.labels[number]], matches.scores[number]
        if kinds[number] < 0:
            title = f'{name}, score {score:.2f}, IoU {iou[number]:.2f}'
            boxes.append(_box('right', matches.boxes[number], '', title))
        else:
            title = f'{name}, score {score:.2f}, false: {list(KINDS.values())[kinds[number]]}'
            boxes.append(_box('false', matches.boxes[number], f'{name} {score:.2f}', title))
    return boxes


def _box(kind: str, corners: np.ndarray, label: str, title: str) -> dict:
    left, top, right, bottom = (round(float(value), 1) for value in corners)
    return dict(
        kind=kind,
        x=left,
        y=top,
        width=max(0.0, round(right - left, 1)),
        height=max(0.0, round(bottom - top, 1)),
        label=label,
        title=title,
    )
