"""Annotations in COCO's and in VOC's format, looked through before MMDetection reads them.

MMDetection takes both on trust: of a missing key it names the key but not the file, a broken XML
file it does not name at all, and what does not fit the classes of the config it drops silently.
"""

import codecs
import glob
import json
import locale
import math
import os
import xml.etree.ElementTree as ElementTree
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from mmdet.datasets import BaseDetDataset, CocoDataset, XMLDataset
from mmdet.registry import DATASETS
from mmengine.registry import DefaultScope
from rich.console import Console
from rich.progress import track

from ..annotation_files import (
    check_lies_as_annotated,
    opencv_reads,
    read_coco,
    read_names,
    read_xml,
    stored_size,
)
from ..config_parts import leaf_datasets, type_name

NO_AREA = 'boxes without area'
OUTSIDE = 'boxes outside their image'
# No coordinate is larger; also false of NaN.
LARGEST = 1e9
OTHER_CLASSES = 'objects of classes that the config does not name'
IGNORED = 'boxes marked as difficult or as a crowd: neither object nor background'
NO_OBJECTS = 'images without objects (filter_empty_gt)'
TURNED = (
    'images that EXIF turns upside down, mirrors, or turns though they are square, or whose '
    'annotation has width and height exchanged'
)
NOTHING = 'images, and no object of the classes in them: there will be no AP'
# What is said of some; all else is left out.
SAID = {TURNED: 'look whether the boxes fit', NOTHING: 'nothing to measure'}
# The metric reads the file itself, or takes all that the data set has.
COUNTED = ', but counted as missed by the evaluation'


def check_annotations(
    dataset: Mapping,
    images: bool = True,
    sizes: bool = False,
    by_coco: Mapping[str, bool] | None = None,
    whole: bool = False,
) -> Counter:
    """Look through the files of a data set's config, wrappers such as ``RepeatDataset`` included.

    Data sets that read their files in a way of their own, and remote files, are passed over.

    Args:
        dataset (Mapping): As ``train_dataloader.dataset`` has it.
        images (bool): They must be there too, and not empty. Defaults to True.
        sizes (bool): And lie as the annotations say, which takes a look into each. Defaults to
            False: those of a training are looked at when they are loaded.
        by_coco (Mapping[str, bool], optional): Files that pycocotools will read too, as the
            ``ann_file`` of a ``CocoMetric``, and whether class by class; it has wishes of its
            own. Defaults to none.
        whole (bool): With ``sizes``, load each image to its end, as OpenCV would. Defaults to
            False: one that is cut off behind its beginning is not found.

    Returns:
        Counter: What the data set will leave out, and how often; and whether an evaluation
        counts it nevertheless. Those in ``SAID`` are not left out, but should be looked at.

    Raises:
        FileNotFoundError: If an annotation file or an image is missing.
        ValueError: If a file is damaged, or does not fit the config; names the file, the entry
            and the key.
    """
    skipped: Counter = Counter()
    has_objects = False  # or it is not known
    for leaf, _ in leaf_datasets(dataset):
        prefix = leaf.get('data_prefix') or {}
        roots = leaf.get('data_root'), leaf.get('ann_file'), prefix.get('sub_data_root')
        if leaf.get('backend_args') or _is_remote(*roots):
            has_objects = True
            continue
        with DefaultScope.overwrite_default_scope('mmdet'):
            kind = leaf.get('type')
            kind = DATASETS.get(kind) if isinstance(kind, str) else kind
            load = getattr(kind, 'load_data_list', None)
            check, found = CHECKS.get(load), Counter()
            if check is not None:
                data = DATASETS.build({**leaf, 'pipeline': [], 'lazy_init': True})
                here = not _is_remote(*prefix.values())
                by_opencv = _loads_by_opencv(leaf)
                look = Look(images and here, sizes, _loads_as_stored(leaf), by_opencv, whole)
                check(data, found, look, by_coco or {})
            has_objects |= NOTHING not in found
            skipped += found
    if has_objects:
        del skipped[NOTHING]
    return skipped


def _is_remote(*places: Any) -> bool:
    return any('://' in str(place) for place in places)


class Look(NamedTuple):
    """How closely images are looked at.

    Attributes:
        at_files (bool): They must be there.
        inside (bool): And lie as annotated.
        as_stored (bool): Without what EXIF says, since the pipeline loads them so.
        by_opencv (bool): The pipeline loads them by OpenCV, which then must read them.
        whole (bool): To their ends, not only where Pillow does not know what they are.
    """

    at_files: bool
    inside: bool
    as_stored: bool
    by_opencv: bool
    whole: bool


def _check_coco(data: CocoDataset, skipped: Counter, look: Look, by_coco: Mapping) -> None:
    path = Path(data.ann_file)
    evaluated = {Path(file): by_class for file, by_class in by_coco.items()}
    evaluates = path in evaluated
    content = read_coco(path, ['images', 'categories'], ['annotations'])
    with open(path, 'rb') as file:
        encoding = json.detect_encoding(file.read(4))
    if encoding != 'utf-8':
        raise ValueError(
            f'{path}: no JSON for pycocotools, which MMDetection reads it by: its encoding is '
            f'{encoding}. Save it as UTF-8 without a byte order mark'
        )
    spoken = locale.getpreferredencoding(False)
    if codecs.lookup(spoken).name != 'utf-8' and not path.read_bytes().isascii():
        raise ValueError(
            f'{path}: pycocotools, which MMDetection reads it by, takes its letters for {spoken}, '
            'and would mix up names: set the environment variable PYTHONUTF8=1'
        )
    if not content['images']:
        raise ValueError(f'{path}: lists no image')
    _check_classes(data, content['categories'], path)
    if evaluated.get(path):
        _check_order(data, content['categories'], path)
    sizes: dict[Any, tuple[float, float]] = {}
    for image in _with_bar(content['images'], look):
        where = f'{path}: image {_name(image)}'
        number, name = _get(image, 'id', (int, str), where), _get(image, 'file_name', str, where)
        if number in sizes:
            raise ValueError(f'{where}: its id stands there twice')
        sizes[number] = _size(*(_get(image, key, (int, float), where) for key in SIDES), where)
        if look.at_files:
            file = Path(data.data_prefix.get('img', ''), name)
            size = sizes[number] if look.inside else None
            if not _check_image(file, where, size, look):
                skipped[TURNED] += 1
    if evaluates and len(set(map(type, sizes))) > 1:
        raise ValueError(
            f'{path}: the ids of some images are numbers, those of others texts: pycocotools, '
            'which evaluates, cannot sort them'
        )
    categories = {one['id']: one['name'] for one in content['categories']}
    seen, with_objects, classes = set(), set(), set(data.metainfo['classes'])
    records = Counter(image['file_name'] for image in content['images'])
    repeated = [image for image in content['images'] if records[image['file_name']] > 1]
    boxes: dict[Any, list] = {image['id']: [] for image in repeated}
    for one in content.get('annotations', []):
        where = f'{path}: annotation {_name(one)}'
        number = _get(one, 'id', (int, str), where)
        if number in seen:
            raise ValueError(f'{where}: its id stands there twice')
        seen.add(number)
        image, category = (_get(one, key, (int, str), where) for key in ('image_id', 'category_id'))
        box, area = _get(one, 'bbox', list, where), _get(one, 'area', (int, float), where)
        if len(box) != 4 or not all(_is_finite(side) for side in box) or not _is_finite(area):
            raise ValueError(
                f'{where}: bbox {box} and area {area} are not [x, y, width, height] and a number, '
                'all finite'
            )
        is_object = categories.get(category) in classes
        if evaluates and is_object and one.get('iscrowd') not in (0, 1):
            raise ValueError(
                f'{where}: iscrowd is missing, or neither 0 nor 1; pycocotools, which evaluates, '
                'needs it: add "iscrowd": 0'
            )
        if evaluates and not isinstance(number, int):
            raise ValueError(
                f'{where}: pycocotools, which evaluates, counts ids as numbers: number the '
                'annotations from 1'
            )
        if image in boxes:
            boxes[image].append((category, *box))
        if is_object:
            with_objects.add(image)
        if reason := left_out(one, is_object, sizes.get(image), evaluates):
            skipped[reason] += 1
    _check_repeated(repeated, boxes, path)
    _count_images(data, [(number in with_objects, size) for number, size in sizes.items()], skipped)


def _check_repeated(images: list, boxes: dict[Any, list], path: Path) -> None:
    """An image may stand there several times, but not each time with a part of its boxes."""
    first: dict[str, Any] = {}
    for image in images:
        number = image['id']
        other = first.setdefault(image['file_name'], number)
        # In any order, where an id may also be a text.
        if Counter(boxes[other]) != Counter(boxes[number]):
            raise ValueError(
                f'{path}: {image["file_name"]} is image {other!r} and image {number!r}, with '
                'other boxes: in each the objects of the other are background. Merge them'
            )


def left_out(one: dict, is_object: bool, image: tuple | None, evaluates: bool) -> str | None:
    """Why an annotation of COCO's will be left out, if it will be.

    Args:
        one (dict): The annotation.
        is_object (bool): Of a class of the config.
        image (tuple | None): Width and height of its image; None if there is none.
        evaluates (bool): Whether pycocotools reads it too.
    """
    counted = COUNTED if evaluates else ''
    left, top, width, height = one['bbox']
    if image is None:
        return 'annotations of images that the file does not list'
    if not is_object:
        return OTHER_CLASSES
    if one.get('ignore'):
        return f'annotations marked to be ignored{counted}'
    # As CocoDataset does.
    if width < 1 or height < 1:
        return f'boxes of less than a pixel{counted}'
    if one['area'] <= 0:
        return f'boxes whose "area" is not positive{counted}'
    if _is_outside((left, top, left + width, top + height), image):
        return f'{OUTSIDE}{counted}'
    if one.get('iscrowd'):
        return IGNORED
    if evaluates and one['id'] == 0:
        return f'annotations of id 0, which pycocotools never finds (count from 1){counted}'
    return None


def _count_images(data: BaseDetDataset, images: list, skipped: Counter) -> None:
    """As the data sets leave whole images out, but for tests."""
    if data.test_mode and not any(with_objects for with_objects, _ in images):
        skipped[NOTHING] = len(images)
    wanted = {} if data.test_mode else data.filter_cfg or {}
    for with_objects, size in images:
        if wanted.get('filter_empty_gt') and not with_objects:
            skipped[NO_OBJECTS] += 1
        elif size and min(size) < wanted.get('min_size', 0):
            skipped[f'images of less than {wanted["min_size"]} pixels (min_size)'] += 1


SIDES = ('width', 'height')
CORNERS = ('xmin', 'ymin', 'xmax', 'ymax')


def _check_classes(data: CocoDataset, categories: list, path: Path) -> None:
    """CocoDataset numbers the classes in the order of the file, whatever the config's order is."""
    names = [_get(one, 'name', str, f'{path}: category {_name(one)}') for one in categories]
    numbers = [_get(one, 'id', (int, str), f'{path}: category {_name(one)}') for one in categories]
    if len(set(numbers)) < len(numbers):
        raise ValueError(f'{path}: two categories of one id')
    classes = list(data.metainfo['classes'])
    for name in classes:
        if names.count(name) > 1:
            raise ValueError(f'{path}: two categories of one name, {name!r}: merge them')
    missing = [name for name in classes if name not in names]
    if missing:
        raise ValueError(
            f'{path}: has no category {missing[:5]}, which the config names in metainfo.classes; '
            f'it has {names[:20]}'
        )
    order = [name for name in names if name in classes]
    if order != classes:
        raise ValueError(
            f'{path}: the categories come as {order[:20]}, but metainfo.classes is '
            f'{classes[:20]}; MMDetection would mix them up: bring one into the order of the other'
        )


def _check_order(data: CocoDataset, categories: list, path: Path) -> None:
    """COCOeval arranges the classes by their ids, ``CocoMetric`` names them in the file's order."""
    numbers = [one['id'] for one in categories if one['name'] in data.metainfo['classes']]
    if np.unique(numbers).tolist() != numbers:
        raise ValueError(
            f'{path}: the ids of the categories, {numbers[:20]}, do not ascend (as numbers or as '
            'words): CocoMetric with classwise=True would give the AP of one class as that of '
            'another. Number them in the order in which they stand'
        )


def _check_voc(data: XMLDataset, skipped: Counter, look: Look, _: Mapping) -> None:
    seen = []
    counted = COUNTED if data.test_mode else ''
    names = read_names(Path(data.ann_file))
    twice = [name for name, times in Counter(names).items() if times > 1]
    if data.test_mode and twice:
        raise ValueError(f'{data.ann_file}: names {twice[:5]} more than once: it would count twice')
    for name in _with_bar(names, look):
        image = Path(data.sub_data_root, data.img_subdir, f'{name}.jpg')
        path = Path(data.sub_data_root, data.ann_subdir, f'{name}.xml')
        where = f'{data.ann_file}: {name!r}'
        if look.at_files:
            others = (
                [] if image.is_file() else sorted(image.parent.glob(f'{glob.escape(image.stem)}.*'))
            )
            if others:
                raise FileNotFoundError(
                    f"{where}: there is {others[0]}, but MMDetection's XMLDataset reads .jpg only: "
                    f'rename or convert it to {image.name}'
                )
            _check_image(image, where)
        root = read_xml(path)
        size = root.find('size')
        sides = None
        if size is not None:  # else MMDetection looks at the image
            sides = _size(*(_number(size, key, path, int) for key in SIDES), str(path))
            is_looked_at = look.at_files and look.inside
            if is_looked_at and not _check_image(image, where, sides, look):
                skipped[TURNED] += 1
        seen.append((False, sides))
        for thing in root.findall('object'):
            class_name = _text(thing, 'name', path)
            difficult = thing.find('difficult') is not None
            difficult = difficult and _number(thing, 'difficult', path, int)
            box = thing.find('bndbox')
            if box is None:
                raise ValueError(f'{path}: an object {class_name!r} without <bndbox>')
            corners = [_number(box, key, path) for key in CORNERS]
            if class_name not in data.metainfo['classes']:
                skipped[OTHER_CLASSES] += 1
            elif corners[2] <= corners[0] or corners[3] <= corners[1]:
                skipped[f'{NO_AREA}{counted}'] += 1
            elif sides and _is_outside([side - 1 for side in corners], sides):
                skipped[f'{OUTSIDE}{counted}'] += 1
            elif difficult:
                skipped[IGNORED] += 1
            if class_name in data.metainfo['classes']:
                seen[-1] = (True, sides)
    _count_images(data, seen, skipped)


# By the method that reads the files, which subclasses with files of another kind replace.
CHECKS = {CocoDataset.load_data_list: _check_coco, XMLDataset.load_data_list: _check_voc}


def _with_bar(entries: Sequence, look: Look) -> Iterable:
    """The entries of many images, each of which is opened."""
    is_quick = len(entries) < 1000 or not (look.at_files and look.inside)
    console = Console(stderr=True)
    return track(entries, 'Looking at the images', console=console, disable=is_quick)


def _check_image(
    path: Path, where: str, annotated: tuple | None = None, look: Look | None = None
) -> bool:
    """It is there, and not empty; and if its annotated size is given, it does not lie across.

    False if EXIF turns it, and nobody can tell whether its boxes turn with it.
    """
    try:
        size = os.stat(path).st_size
    except OSError as error:
        raise FileNotFoundError(f'{where}: there is no image {path}') from error
    except ValueError as error:  # a NUL in a name
        raise ValueError(f'{where}: {str(path)!r} is no name of a file') from error
    if size == 0:
        raise ValueError(f'{where}: the image {path} is empty')
    if not annotated:
        return True
    # (Pillow is the faster one, but knows less.)
    is_doubtful = look.whole or stored_size(path) is None
    if look.by_opencv and is_doubtful and not opencv_reads(path):
        raise ValueError(f'{where}: {path} is no image, or a damaged one')
    return check_lies_as_annotated(path, annotated, stored_size(path) if look.as_stored else None)


def _loads_as_stored(leaf: Mapping) -> bool:
    """Whether the pipeline leaves aside what EXIF says."""
    steps = leaf.get('pipeline') or ()
    types = [str(step.get('color_type')) for step in steps if isinstance(step, Mapping)]
    return any(kind == 'unchanged' or kind.endswith('ignore_orientation') for kind in types)


def _loads_by_opencv(leaf: Mapping) -> bool:
    """Whether the pipeline loads images from their files as MMDetection does by default."""
    steps = [step for step in leaf.get('pipeline') or () if isinstance(step, Mapping)]
    kinds = ('LoadImageFromFile', 'CheckedLoadImageFromFile')
    loading = [step for step in steps if type_name(step) in kinds]
    return any(step.get('imdecode_backend', 'cv2') == 'cv2' for step in loading)


def _name(entry: Any) -> str:
    return repr(entry.get('id') if isinstance(entry, dict) else entry)[:80]


def _get(entry: Any, key: str, kinds: type | tuple, where: str) -> Any:
    """A value of an entry, of a type that it may have."""
    value = entry.get(key) if isinstance(entry, dict) else None
    if not isinstance(value, kinds) or isinstance(value, bool):
        raise ValueError(f'{where}: {key} is missing or of a wrong type: {value!r:.80}')
    return value


def _size(width: float, height: float, where: str) -> tuple[float, float]:
    if not (_is_finite(width) and _is_finite(height) and width > 0 and height > 0):
        raise ValueError(f'{where}: an image of {width}x{height} pixels')
    return width, height


def _is_finite(value: Any) -> bool:
    return isinstance(value, (int, float)) and -LARGEST < value < LARGEST


def _is_outside(box: Any, size: tuple[float, float]) -> bool:
    left, top, right, bottom = box
    return right <= 0 or bottom <= 0 or left >= size[0] or top >= size[1]


def _text(element: ElementTree.Element, key: str, path: Path) -> str:
    child = element.find(key)
    if child is None or not (child.text or '').strip():
        raise ValueError(f'{path}: <{element.tag}> without <{key}>')
    return child.text


def _number(element: ElementTree.Element, key: str, path: Path, kind: type = float) -> float:
    text = _text(element, key, path)
    try:
        value = kind(text)
    except ValueError:
        value = math.nan
    if not _is_finite(value):
        raise ValueError(f'{path}: <{element.tag}><{key}>: {text!r:.80} is no number')
    return value
