"""Darknet's data sets as COCO annotations, and back.

A Darknet data set is ``obj.data`` (options), ``obj.names`` (one class in each line), lists of image
paths, and for each image a text file of ``class cx cy w h``, relative to the image.
"""

import filecmp
import json
import logging
import math
import os
import shutil
from collections import Counter
from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from mmengine.logging import print_log
from mmengine.utils import track_iter_progress

from ..annotation_files import UNREADABLE, image_size, read_coco
from ..whole_files import write_all
from .files import read_text

SPLITS = ('train', 'valid')
IMAGE_FOLDERS = ('images', 'JPEGImages')
# Where ours come: Darknet's master knows both, AlexeyAB's fork this one alone.
IMAGES = 'JPEGImages'
# What Darknet's master replaces to find the labels of an image, once and anywhere in its path
# (data.c, fill_truth_detection).
REPLACED = dict.fromkeys((*IMAGE_FOLDERS, 'raw'), 'labels')
REPLACED |= dict.fromkeys(('.jpg', '.png', '.JPG', '.JPEG'), '.txt')
# Rounding of relative coordinates to six digits, as labelling tools write them.
TOLERANCE = 1e-5
# No coordinate in pixels is larger; also false of NaN.
LARGEST = 1e9


@dataclass
class Report:
    """What a conversion met.

    Attributes:
        bad (list[str]): ``file:line: what was found, what was expected``.
        counts (Counter): How often what happened.
    """

    bad: list[str] = field(default_factory=list)
    counts: Counter = field(default_factory=Counter)

    def add(self, file: Path, line: int, kind: str, message: str) -> None:
        """Note a bad line."""
        self.bad.append(f'{file}:{line}: {message}')
        self.counts[f'bad: {kind}'] += 1


def darknet_to_coco(
    data: str | Path,
    out: str | Path,
    splits: Sequence[str] = SPLITS,
    image_root: str | Path | None = None,
    skip_bad: bool = False,
) -> tuple[Report, list[str], Path, list[Path]]:
    """Write ``out/train.json`` and ``out/valid.json``.

    Args:
        data (str | Path): The ``.data`` file.
        out (str | Path): Folder for the annotation files.
        splits (Sequence[str]): Of 'train', 'valid'; one that the data file lacks is left out.
        image_root (str | Path, optional): Image names are relative to it. Defaults to the
            deepest folder that holds all images.
        skip_bad (bool): Leave bad lines out and write the rest; else nothing is written if there
            is one. Defaults to False.

    Returns:
        tuple[Report, list[str], Path, list[Path]]: Bad lines and counts, the class names, the
        image root, and the files that were written.

    Raises:
        FileNotFoundError: If the data file, the names or a list is missing.
        ValueError: If one of them is no such file.
    """
    data, report = Path(data), Report()
    options = _read_options(data)
    if 'names' not in options:
        raise ValueError(f'{data}: names= is missing')
    names = _read_names(_resolve(options['names'], data, 'file of names'))
    if options.get('classes', str(len(names))) != str(len(names)):
        raise ValueError(
            f'{data}: classes={options["classes"]}, but {options["names"]} has {len(names)} names'
        )
    lists = {
        split: _resolve(options[split], data, f'list of {split} images')
        for split in SPLITS  # the first is for training, in whatever order they were asked for
        if split in splits and split in options
    }
    if not lists:
        raise ValueError(f'{data}: none of {", ".join(f"{split}=" for split in splits)} in it')
    images = {split: list(_read_list(path, data, report)) for split, path in lists.items()}
    if not any(images.values()):
        raise ValueError(f'{data}: no image was found' + _first(report))
    if image_root is None:
        everything = [path.parent for listed in images.values() for path, _, _ in listed]
        image_root = os.path.commonpath(everything)
    contents = {
        Path(out, f'{split}.json'): json.dumps(
            _coco(listed, names, Path(image_root), report), allow_nan=False
        ).encode()
        for split, listed in images.items()
    }
    if report.bad and not skip_bad:
        contents = {}
    write_all(contents)
    return report, names, Path(image_root), list(contents)


def coco_to_darknet(
    annotations: str | Path,
    image_root: str | Path,
    out: str | Path,
    split: str = 'train',
    copy_images: bool = False,
) -> Report:
    """Write ``out/obj.data``, ``out/obj.names``, the list of a split, its labels and images.

    Images come to ``out/JPEGImages/SPLIT`` as links or copies, labels to ``out/labels/SPLIT``,
    which is where Darknet and AlexeyAB's fork look for them. Call it once for each split. Crowds
    and boxes without area have no place in Darknet and are counted. What an earlier call has left
    there is replaced.

    Args:
        annotations (str | Path): A COCO file.
        image_root (str | Path): Its image names are relative to it.
        out (str | Path): Folder of the data set. Paths in it begin as this does: start Darknet
            from the present folder.
        split (str): 'train' or 'valid'.
        copy_images (bool): Copy the images; else link to them. Defaults to False.

    Raises:
        FileNotFoundError: If the annotations or an image is missing.
        ValueError: If the annotations are damaged; names the annotation and the key. If an image or
            a label that no earlier call has made would be lost (a label beside a link to its image,
            or beside an equal copy, is taken for one of an earlier call), or if the folder has a
            blank in it.
    """
    annotations, out, report = Path(annotations), Path(out), Report()
    if len(out.as_posix().split()) > 1:
        raise ValueError(
            f'{out}: Darknet takes the blanks out of the paths in obj.data, and would not find it: '
            'give a folder without any'
        )
    if split not in SPLITS:
        raise ValueError(f'split must be one of {SPLITS}, got {split!r}')
    names, images = _read_coco(annotations, Path(image_root), report)
    paths = [f'{_start(out, IMAGES, split)}{name}' for name in images]
    labels = [
        f'{_start(out, "labels", split)}{Path(name).with_suffix(".txt").as_posix()}'
        for name in images
    ]
    lost = [path for path, label in zip(paths, labels) if darknets_label(path) != label]
    if lost:
        print_log(
            f'{len(lost)} images, the first of them {lost[0]}: Darknet will not find their labels. '
            f'It looks in {darknets_label(lost[0])}, since it puts "labels" in the place of the '
            'first "images", "JPEGImages" and "raw" of a path, and knows .jpg, .png, .JPG and '
            '.JPEG: give another folder, or other names',
            logger='current',
            level=logging.WARNING,
        )
    names_path = out / 'obj.names'
    if names_path.exists():
        former = read_text(names_path, 'file of names').splitlines()
        # Of an earlier call for this split alone they may be replaced.
        if former != names and not _is_of_split_alone(out, split):
            raise ValueError(
                f'{names_path}: another split has the classes {former}, {annotations} has {names}'
            )
    for file, reason in _foreign(out, split, Path(image_root), copy_images, images):
        raise ValueError(
            f'{file}: would be lost, and {reason}: give another folder than {out}, or move it away'
        )
    _put(images, out, split, copy_images)
    listed = ''.join(f'{path}\n' for path in paths)
    there = [one for one in SPLITS if one == split or (out / f'{one}.txt').exists()]
    options = ''.join(f'{one} = {(out / one).as_posix()}.txt\n' for one in there)
    (out / 'backup').mkdir(exist_ok=True)  # else Darknet ends when it first saves its weights
    write_all(
        {
            out / f'{split}.txt': listed.encode(),
            names_path: ''.join(f'{name}\n' for name in names).encode(),
            out / 'obj.data': (
                f'classes = {len(names)}\n{options}names = {names_path.as_posix()}\n'
                f'backup = {(out / "backup").as_posix()}\n'
            ).encode(),
        }
    )
    return report


def _put(images: dict, out: Path, split: str, copy_images: bool) -> None:
    """Images and labels of a split, in the place of those of an earlier call."""
    new_labels, new_images = (out / f'.{kind}_{split}.tmp' for kind in ('labels', 'images'))
    for folder in (new_labels, new_images):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
    try:
        for name, (source, lines) in track_iter_progress(list(images.items())):
            label = (new_labels / name).with_suffix('.txt')
            image = new_images / name
            label.parent.mkdir(parents=True, exist_ok=True)
            image.parent.mkdir(parents=True, exist_ok=True)
            label.write_text(''.join(lines), encoding='utf-8')
            if copy_images:
                shutil.copyfile(source, image)
            else:
                image.symlink_to(source.resolve())
        # Labels last: by the images one sees whose they are.
        for new, kind in ((new_images, IMAGES), (new_labels, 'labels')):
            target = out / kind / split
            shutil.rmtree(target, ignore_errors=True)
            target.parent.mkdir(exist_ok=True)
            os.replace(new, target)
    finally:
        for folder in (new_labels, new_images):
            shutil.rmtree(folder, ignore_errors=True)


def _is_of_split_alone(out: Path, split: str) -> bool:
    """Whether all that a data set has is what calls for this split have written."""
    data, listed = out / 'obj.data', out / f'{split}.txt'
    if not data.is_file() or not listed.is_file():
        return False
    lines = listed.read_text(encoding='utf-8', errors='replace').splitlines()
    start = _start(out, IMAGES, split)
    is_alone = {*SPLITS} & {*_read_options(data)} == {split}
    return is_alone and all(line.startswith(start) for line in lines)


def _start(out: Path, kind: str, split: str) -> str:
    """How the paths of a split begin. AlexeyAB's fork looks for ``/JPEGImages/``, with a slash."""
    return f'{"./" if out == Path() else ""}{(out / kind / split).as_posix()}/'


def _foreign(
    out: Path, split: str, image_root: Path, copy_images: bool, images: Container[str]
) -> Iterator[tuple[Path, str]]:
    """Images and labels in the way that no earlier call has made, and why one thinks so."""
    folder, labels = out / IMAGES / split, out / 'labels' / split
    for file in _files(folder):
        source = image_root / file.relative_to(folder)
        if file.is_symlink():
            continue
        if not source.is_file():
            yield file, f'is neither a link nor a copy of an image in {image_root}'
        elif not filecmp.cmp(file, source, shallow=False):
            yield file, f'is another image than {source}'
        # The original itself: a link would point to it, and a copy is made of those listed alone.
        elif folder.resolve() in source.resolve().parents and not (
            copy_images and file.relative_to(folder).as_posix() in images
        ):
            yield file, 'is the image itself, and no copy'
    known = {file.relative_to(folder).with_suffix('.txt') for file in _files(folder)}
    if (out / f'{split}.txt').is_file():  # of images that a call has replaced that was broken off
        lines = (out / f'{split}.txt').read_text(encoding='utf-8', errors='replace').splitlines()
        start = _start(out, IMAGES, split)
        known |= {
            Path(line.removeprefix(start)).with_suffix('.txt')
            for line in lines
            if line.startswith(start)
        }
    for file in _files(labels):
        if file.relative_to(labels) not in known:
            yield file, f'belongs to no image in {folder}'


def _files(folder: Path) -> list[Path]:
    return [file for file in folder.rglob('*') if file.is_symlink() or not file.is_dir()]


def _read_options(path: Path) -> dict[str, str]:
    options = {}
    for number, line in enumerate(read_text(path, 'data file').splitlines(), 1):
        text = line.strip()
        if not text or text[0] in '#;':
            continue
        key, found, value = text.partition('=')
        if not found or not key.strip() or not value.strip():
            raise ValueError(f'{path}:{number}: expected option = value, got {text!r}')
        if key.strip() in options:
            raise ValueError(
                f'{path}:{number}: a second {key.strip()}=; Darknet takes the first: leave one'
            )
        options[key.strip()] = value.strip()
    return options


def _bases(data: Path) -> list[Path]:
    """Where relative paths may begin: where Darknet is started, else at the data set or above."""
    return [Path(), *data.resolve().parents]


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # no name of a file: too long, or with a NUL in it
        return False


def _resolve(text: str, data: Path, kind: str) -> Path:
    for base in _bases(data):
        if _is_file(base / text):
            return base / text
    raise FileNotFoundError(
        f'{data}: {text}: there is no such {kind}, seen from the present folder, from that of the '
        'data file, or from one above it'
    )


def _read_names(path: Path) -> list[str]:
    names = [line.strip() for line in read_text(path, 'file of names').rstrip().splitlines()]
    for number, name in enumerate(names, 1):
        if not name:
            raise ValueError(f'{path}:{number}: a class without a name')
        if names.index(name) < number - 1:
            raise ValueError(f'{path}:{number}: the class {name!r} stands there twice')
    if not names:
        raise ValueError(f'{path}: no class names in it')
    return names


def _read_list(path: Path, data: Path, report: Report) -> Iterator[tuple[Path, Path, int]]:
    """Existing images of a list in its order, each with the list and its line."""
    bases = [*_bases(data)[:1], path.parent, *_bases(data)[1:]]
    seen: dict[str, int] = {}
    lines = path.read_text(encoding='utf-8-sig', errors='surrogateescape').splitlines()
    for number, line in enumerate(lines, 1):
        text = line.strip()
        if not text:
            continue
        found = next((base / text for base in bases if _is_file(base / text)), None)
        key = os.path.normpath(found.absolute()) if found else text
        if key in seen:
            report.add(path, number, 'image twice', f'{text} stands at line {seen[key]} too')
            continue
        seen[key] = number
        if found is None:
            report.add(path, number, 'image missing', f'{text}: there is no such image')
        else:
            yield found.absolute(), path, number


def _first(report: Report) -> str:
    return f'; first {report.bad[0]}' if report.bad else ''


def darknets_label(image: str) -> str:
    """Where Darknet's master looks for the labels of an image."""
    for old, new in REPLACED.items():
        image = image.replace(old, new, 1)
    return image


def label_path(image: Path) -> Path:
    """Where the labels of an image lie.

    Darknet looks in ``labels`` instead of ``images`` or ``JPEGImages``, the first one in the path;
    other tools take the last one, and many write them beside the image. Parts of names that
    Darknet replaces come last: they may stand in a folder above the data set.
    """
    folders = image.parent.parts
    found = [index for index, name in enumerate(folders) if name in IMAGE_FOLDERS]
    for index in dict.fromkeys(found[:1] + found[-1:]):
        path = Path(*folders[:index], 'labels', *folders[index + 1 :], image.name)
        if path.with_suffix('.txt').is_file():
            return path.with_suffix('.txt')
    beside, darknets = image.with_suffix('.txt'), Path(darknets_label(str(image)))
    # What Darknet does not know it leaves, then this is the image itself.
    return darknets if darknets.suffix == '.txt' and darknets.is_file() else beside


def _coco(listed: list, names: list[str], root: Path, report: Report) -> dict:
    images, annotations = [], []
    for path, list_path, line in track_iter_progress(listed):
        try:
            width, height, turned = image_size(path)
        except UNREADABLE as error:
            message = f'{path}: not an image that can be read ({type(error).__name__})'
            report.add(list_path, line, 'image unreadable', message)
            continue
        if turned:
            report.counts['images turned or mirrored by EXIF (which Darknet does not follow)'] += 1
        name = _seen_from(root, path)
        image_id = len(images) + 1
        images.append(dict(id=image_id, file_name=name, width=width, height=height))
        for category, box in _read_labels(label_path(path), len(names), report):
            left, top, right, bottom = box
            box = [left * width, top * height, (right - left) * width, (bottom - top) * height]
            annotations.append(
                dict(
                    id=len(annotations) + 1,
                    image_id=image_id,
                    category_id=category + 1,
                    bbox=box,
                    area=box[2] * box[3],
                    iscrowd=0,
                )
            )
    report.counts['images'] += len(images)
    report.counts['boxes'] += len(annotations)
    if images and not annotations:
        print_log(
            f'{listed[0][1]}: none of its {len(images)} images has an object; labels of '
            f'{listed[0][0]} were looked for in a folder labels, and in '
            f'{listed[0][0].with_suffix(".txt")}',
            logger='current',
            level=logging.WARNING,
        )
    categories = [dict(id=number, name=name) for number, name in enumerate(names, 1)]
    return dict(images=images, annotations=annotations, categories=categories)


def _seen_from(root: Path, path: Path) -> str:
    # As written, or as the folders really lie; the image itself may be a link to elsewhere.
    if path.is_relative_to(root.absolute()):
        return path.relative_to(root.absolute()).as_posix()
    real = path.parent.resolve() / path.name
    if real.is_relative_to(root.resolve()):
        return real.relative_to(root.resolve()).as_posix()
    raise ValueError(f'{path} does not lie under the image root {root}')


def _read_labels(path: Path, num_classes: int, report: Report) -> Iterator[tuple]:
    """(class, (left, top, right, bottom)) of each good line, relative, clipped to the image."""
    if not path.is_file():
        report.counts['images without a label file (no objects)'] += 1
        return
    text = path.read_bytes().decode('utf-8-sig', errors='replace')
    for number, line in enumerate(text.splitlines(), 1):
        fields = line.split()
        if not fields:
            continue
        problem = _problem(fields, num_classes)
        if problem:
            report.add(path, number, *problem)
            continue
        cx, cy, w, h = map(float, fields[1:])
        box = (cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2)
        clipped = tuple(min(max(side, 0.0), 1.0) for side in box)
        if max(abs(a - b) for a, b in zip(box, clipped)) > TOLERANCE:
            report.counts['boxes clipped to the image (as Darknet does)'] += 1
        yield int(fields[0]), clipped


def _problem(fields: list[str], num_classes: int) -> tuple[str, str] | None:
    """The kind of a bad line and what is wrong with it."""
    if len(fields) != 5:
        return 'fields', f'{len(fields)} fields, expected `class cx cy w h`'
    try:
        category = int(fields[0])
    except ValueError:
        return 'class', f'the class {fields[0]!r} is no integer'
    if not 0 <= category < num_classes:
        return 'class', f'class {category}, expected 0..{num_classes - 1}'
    try:
        cx, cy, w, h = map(float, fields[1:])
    except ValueError:
        return 'number', f'{" ".join(fields[1:])!r} are not four numbers'
    if not all(map(math.isfinite, (cx, cy, w, h))):
        return 'number', f'{" ".join(fields[1:])!r} are not finite'
    if not (0 < w <= 1 + TOLERANCE and 0 < h <= 1 + TOLERANCE):
        return 'size', f'a width of {w} and a height of {h}, expected more than 0, at most 1'
    if not (0 <= cx <= 1 and 0 <= cy <= 1):
        return 'centre', f'the centre ({cx}, {cy}) lies outside the image, expected 0..1'
    return None


def _read_coco(path: Path, root: Path, report: Report) -> tuple[list[str], dict]:
    """Class names; for each image name its path and label lines."""
    content = read_coco(path, ['images', 'annotations', 'categories'])
    categories = sorted(
        content['categories'], key=lambda one: _get(one, 'id', path, 'category', int)
    )
    names = [' '.join(_get(one, 'name', path, 'category', str).split()) for one in categories]
    number = {one['id']: index for index, one in enumerate(categories)}
    if len(number) < len(names) or len(set(names)) < len(names):
        raise ValueError(f'{path}: two categories of one id or one name')
    images: dict[str, tuple[Path, list[str]]] = {}
    by_id: dict[int, tuple[str, int, int]] = {}
    labels: dict[str, str] = {}
    for image in content['images']:
        image_id, name = (
            _get(image, key, path, 'image', kind) for key, kind in (('id', int), ('file_name', str))
        )
        width, height = (_get(image, key, path, 'image', int) for key in ('width', 'height'))
        where = f'{path}: image {image_id}'
        pure = PurePosixPath(name)
        if pure.is_absolute() or '..' in pure.parts or not pure.name:
            raise ValueError(f'{where}: file_name {name!r} leads out of the image folder')
        if image_id in by_id or name in images:
            raise ValueError(f'{where}: its id or its file_name {name!r} stands there twice')
        if not (0 < width < LARGEST and 0 < height < LARGEST):
            raise ValueError(f'{where}: a size of {width}x{height}')
        label = str(pure.with_suffix('.txt'))
        if label in labels:
            raise ValueError(
                f'{where}: {name} and {labels[label]} would share the label file {label}'
            )
        if not (root / name).is_file():
            raise FileNotFoundError(f'{where}: there is no {root / name}')
        _check_not_turned(root / name, (width, height), where)
        labels[label], by_id[image_id], images[name] = (
            name,
            (name, width, height),
            (root / name, []),
        )
    for one in content['annotations']:
        line = _label_line(one, path, by_id, number, report)
        if line:
            images[by_id[one['image_id']][0]][1].append(line)
    report.counts['images'] += len(images)
    report.counts['boxes'] += sum(len(lines) for _, lines in images.values())
    return names, images


def _check_not_turned(image: Path, annotated: tuple[int, int], where: str) -> None:
    """Darknet takes the pixels as they lie, MMDetection as EXIF says, and so do its boxes.

    But not where the annotated sides are those of the pixels as they lie: so are the boxes then.
    """
    try:
        *shown, turned = image_size(image)
    except UNREADABLE as error:
        raise ValueError(
            f'{where}: {image} is no image that can be read ({type(error).__name__})'
        ) from error
    if turned and (turned < 5 or annotated == tuple(shown)):
        raise ValueError(
            f'{where}: {image} is turned or mirrored by EXIF, which Darknet does not follow, but '
            'MMDetection: write its pixels as they are shown (`mogrify -auto-orient`); or, if the '
            'boxes are of the pixels as they lie, take the note out (`exiftool -Orientation=`)'
        )


def _label_line(one: dict, path: Path, images: dict, number: dict, report: Report) -> str | None:
    """A line of a label file; None for what Darknet has no place for."""
    box = _get(one, 'bbox', path, 'annotation', list)
    image_id, category = (
        _get(one, key, path, 'annotation', int) for key in ('image_id', 'category_id')
    )
    where = f'{path}: annotation {one.get("id")}'
    if image_id not in images:
        raise ValueError(f'{where}: there is no image of image_id {image_id}')
    if category not in number:
        raise ValueError(f'{where}: there is no category of category_id {category}')
    good = len(box) == 4 and all(
        isinstance(side, int | float) and -LARGEST < side < LARGEST for side in box
    )
    if not good:
        raise ValueError(f'{where}: bbox {box} is no [x, y, width, height] of finite numbers')
    for key, what in dict(iscrowd='crowds', ignore='annotations marked to be ignored').items():
        if one.get(key):
            report.counts[f'{what} left out'] += 1
            return None
    _, width, height = images[image_id]
    left, right = (min(max(side, 0), width) for side in (box[0], box[0] + box[2]))
    top, bottom = (min(max(side, 0), height) for side in (box[1], box[1] + box[3]))
    if right <= left or bottom <= top:
        report.counts['boxes without area in the image left out'] += 1
        return None
    if max(left - box[0], box[0] + box[2] - right, top - box[1], box[1] + box[3] - bottom) > 0.01:
        report.counts['boxes clipped to the image'] += 1
    values = (
        (left + right) / 2 / width,
        (top + bottom) / 2 / height,
        (right - left) / width,
        (bottom - top) / height,
    )
    return f'{number[category]} ' + ' '.join(f'{value:.10f}' for value in values) + '\n'


def _get(entry: dict, key: str, path: Path, kind: str, expected: type):
    """A value of an entry, of the type that it must have."""
    value = entry.get(key) if isinstance(entry, dict) else None
    if not isinstance(value, expected) or isinstance(value, bool):
        name = entry.get('id') if isinstance(entry, dict) else entry
        raise ValueError(
            f'{path}: {kind} {name!r}: {key} must be of type {expected.__name__}, got {value!r}'
        )
    return value
