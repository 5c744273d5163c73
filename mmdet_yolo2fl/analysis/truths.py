"""The true boxes of a data set, as its metric sees them."""

import contextlib
import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from mmengine.fileio import get_local_path
from pycocotools.coco import COCO

from ..evaluators import is_coco
from ..imbalance import annotations


@dataclass
class Truths:
    """Images and true boxes.

    Attributes:
        coco (COCO): All of it, for pycocotools.
        ids (list): ``img_id`` of the images, in the order of the data set.
        coco_ids (list): By which ``coco`` knows them.
        paths (list[str]): Their files.
        category_ids (list[int]): By which ``coco`` knows the classes.
        classes (list[str]): Their names.
        images (np.ndarray): ``(M,)`` int64, the position of each box's image.
        labels (np.ndarray): ``(M,)`` int64, 0..C-1.
        boxes (np.ndarray): ``(M, 4)`` float64, corners in pixels.
        areas (np.ndarray): ``(M,)`` float64, in square pixels; of the mask where a COCO file has
            one.
        ignored (np.ndarray): ``(M,)`` bool, crowds and difficult ones.
        annotation_ids (list[int]): Of each box in ``coco``.
    """

    coco: COCO
    ids: list
    coco_ids: list
    paths: list[str]
    category_ids: list[int]
    classes: list[str]
    images: np.ndarray
    labels: np.ndarray
    boxes: np.ndarray
    areas: np.ndarray
    ignored: np.ndarray
    annotation_ids: list[int]


def load_truths(dataset, evaluator: Sequence[dict] = ()) -> Truths:
    """Read the true boxes of a data set.

    Where ``evaluator`` has a ``CocoMetric`` with an annotation file, they come from that file, as
    they do there (it may have areas of masks, and boxes that the data set leaves out); or else
    from the data set, as in a ``CocoMetric`` without one.

    Args:
        dataset: MMDetection's, built.
        evaluator (Sequence[dict]): Configs of metrics.

    Raises:
        ValueError: If the data set has no images or classes, or if the file does not fit it.
    """
    infos = list(annotations(dataset))
    names = [str(name) for name in dataset.metainfo.get('classes') or ()]
    if not infos or not names:
        raise ValueError(
            f'{type(dataset).__name__} has {len(infos)} images and {len(names)} classes: there is '
            'nothing to analyze'
        )
    ids = [info.get('img_id', number) for number, info in enumerate(infos)]
    unique = len(set(ids)) == len(ids)
    metric = next((m for m in evaluator if is_coco(m) and m.get('ann_file')), {})
    if metric and unique:
        coco, category_ids = _from_file(metric, names, ids)
        # MMDetection's labels follow the order of the file.
        names = [str(category['name']) for category in coco.loadCats(category_ids)]
        coco_ids = ids
    else:
        coco_ids = ids if unique else list(range(len(ids)))
        coco, category_ids = _from_annotations(infos, coco_ids, names), list(range(len(names)))
    places = {image_id: number for number, image_id in enumerate(coco_ids)}
    labels = {category_id: label for label, category_id in enumerate(category_ids)}
    boxes = [
        entry
        for entry in coco.anns.values()
        if entry['image_id'] in places and entry['category_id'] in labels
    ]
    corners = np.array([entry['bbox'] for entry in boxes], float).reshape(-1, 4)
    corners[:, 2:] += corners[:, :2]
    return Truths(
        coco=coco,
        ids=ids,
        coco_ids=coco_ids,
        paths=[str(info.get('img_path', '')) for info in infos],
        category_ids=category_ids,
        classes=names,
        images=np.array([places[entry['image_id']] for entry in boxes], np.int64),
        labels=np.array([labels[entry['category_id']] for entry in boxes], np.int64),
        boxes=corners,
        areas=np.array([entry['area'] for entry in boxes], float),
        ignored=np.array([bool(entry.get('iscrowd')) for entry in boxes], bool),
        annotation_ids=[entry['id'] for entry in boxes],
    )


def _from_file(metric: dict, names: list[str], ids: list) -> tuple[COCO, list[int]]:
    file = metric['ann_file']
    with (
        get_local_path(file, backend_args=metric.get('backend_args')) as path,
        contextlib.redirect_stdout(io.StringIO()),  # pycocotools talks
    ):
        coco = COCO(path)
        # pycocotools notes matches in float64, where 0 stands for none: it would lose annotations
        # of the id 0, and of ids that are text or too large (and does so, in CocoMetric).
        for number, entry in enumerate(coco.dataset.get('annotations', ()), 1):
            entry['id'] = number
        coco.createIndex()
    category_ids = coco.getCatIds(catNms=names)
    if len(category_ids) != len(names):
        raise ValueError(f'{file}: the file of the metric has not the classes {names}')
    missing = [image_id for image_id in ids if image_id not in coco.imgs]
    if missing:
        raise ValueError(
            f'{file}: the file of the metric lacks the image {missing[0]!r} of the data set'
        )
    if further := len(coco.imgs) - len(set(ids)):
        print(
            f'{further} images of {file} are not in the data set: they do not count here; in '
            'CocoMetric, and so in tools/test.py, their objects are missed'
        )
    return coco, category_ids


def _from_annotations(infos: list[dict], ids: list, names: list[str]) -> COCO:
    entries = []
    for info, image_id in zip(infos, ids):
        for instance in info.get('instances', ()):
            left, top, right, bottom = map(float, instance['bbox'])
            entries.append(
                dict(
                    id=len(entries) + 1,  # 0 would mean `unmatched`
                    image_id=image_id,
                    category_id=int(instance['bbox_label']),
                    bbox=[left, top, right - left, bottom - top],
                    area=(right - left) * (bottom - top),
                    iscrowd=int(instance.get('ignore_flag', 0)),
                )
            )
    categories = [dict(id=label, name=name) for label, name in enumerate(names)]
    return make_coco([dict(id=image_id) for image_id in ids], categories, entries)


def make_coco(images: list[dict], categories: list[dict], entries: list[dict]) -> COCO:
    """A ``COCO`` without a file."""
    coco = COCO()
    coco.dataset = dict(images=images, categories=categories, annotations=entries)
    with contextlib.redirect_stdout(io.StringIO()):
        coco.createIndex()
    return coco
