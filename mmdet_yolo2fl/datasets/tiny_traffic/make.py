"""Makes a set of street scenes once and finds it again."""

import hashlib
import json
import math
import os
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import cv2
import numpy as np
from filelock import FileLock
from mmengine import print_log, track_iter_progress
from platformdirs import user_cache_dir

from .scene import OBJECTS, render_scene

CLASSES = ('car', 'truck', 'pedestrian', 'cyclist')
NUM_IMAGES = dict(train=3000, val=250, test=250)
JPEG_QUALITY = 92


@dataclass(frozen=True)
class Recipe:
    """All that decides what a set contains.

    Args:
        split (str): 'train', 'val' or 'test'; they share no image.
        num_images (int, optional): Defaults to 3000 for 'train', 250 for the others.
        image_size (Sequence[int]): Width and height in pixels, at least 64 each.
        seed (int): Not negative.
        class_frequencies (Sequence[float]): Share of each class of ``CLASSES`` among the objects,
            not negative; scaled to a sum of 1.

    Raises:
        ValueError: If one of them is not as described.
    """

    split: str = 'train'
    num_images: int | None = None
    image_size: Sequence[int] = (416, 256)
    seed: int = 0
    class_frequencies: Sequence[float] = (0.80, 0.10, 0.06, 0.04)

    def __post_init__(self):
        if self.split not in NUM_IMAGES:
            raise ValueError(f"split must be 'train', 'val' or 'test', not {self.split!r}")
        num_images = NUM_IMAGES[self.split] if self.num_images is None else self.num_images
        if not is_int(num_images) or num_images < 1:
            raise ValueError(f'num_images must be an integer of at least 1, not {num_images!r}')
        if not is_int(self.seed) or self.seed < 0:
            raise ValueError(f'seed must be an integer of at least 0, not {self.seed!r}')
        size = tuple(self.image_size)
        if len(size) != 2 or not all(is_int(side) and side >= 64 for side in size):
            raise ValueError(
                'image_size must be (width, height), integers of at least 64 pixels, '
                f'not {self.image_size!r}'
            )
        shares = tuple(float(share) for share in self.class_frequencies)
        if len(shares) != len(CLASSES):
            raise ValueError(
                f'class_frequencies must have {len(CLASSES)} values, one for each of {CLASSES}, '
                f'not {len(shares)}: {shares}'
            )
        total = sum(shares)
        if not math.isfinite(total) or min(shares) < 0 or total <= 0:
            raise ValueError(
                'class_frequencies must be finite, not negative and not all zero, '
                f'not {self.class_frequencies!r}'
            )
        # plain numbers, so that equal recipes have equal names
        object.__setattr__(self, 'num_images', int(num_images))
        object.__setattr__(self, 'seed', int(self.seed))
        object.__setattr__(self, 'image_size', tuple(int(side) for side in size))
        object.__setattr__(self, 'class_frequencies', tuple(share / total for share in shares))

    @property
    def name(self):
        """A folder name that differs for every recipe and every state of the renderer's code."""
        digest = hashlib.sha256(json.dumps(asdict(self)).encode())
        for source in ('make.py', 'objects.py', 'scene.py'):
            digest.update(Path(__file__).with_name(source).read_bytes())
        width, height = self.image_size
        return f'{self.split}_{self.num_images}_{width}x{height}_{digest.hexdigest()[:10]}'


def is_int(value):
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool)


def default_root():
    """``$MMDET_YOLO2FL_DATA``, or the user's cache folder, and in it ``tiny_traffic``."""
    cache = os.environ.get('MMDET_YOLO2FL_DATA') or user_cache_dir('mmdet_yolo2fl')
    return Path(cache).expanduser() / 'tiny_traffic'


def plan_classes(recipe):
    """Deals out the classes, so that their counts in the whole set are the expected ones.

    Returns:
        list[np.ndarray]: For each image the class indices of its objects.
    """
    rng = np.random.default_rng([recipe.seed, list(NUM_IMAGES).index(recipe.split), 0])
    per_image = rng.integers(OBJECTS[0], OBJECTS[1] + 1, recipe.num_images)
    expected = per_image.sum() * np.array(recipe.class_frequencies)
    counts = np.floor(expected).astype(int)
    largest_remainders = np.argsort(counts - expected, kind='stable')
    counts[largest_remainders[: per_image.sum() - counts.sum()]] += 1
    dealt = rng.permutation(np.repeat(np.arange(len(CLASSES)), counts))
    return np.split(dealt, np.cumsum(per_image)[:-1])


def render_set(recipe, folder):
    """Writes the images and then ``annotations.json`` into an existing empty folder."""
    (folder / 'images').mkdir()
    width, height = recipe.image_size
    split, plan = list(NUM_IMAGES).index(recipe.split), plan_classes(recipe)
    images, annotations = [], []
    for index in track_iter_progress(range(recipe.num_images)):
        rng = np.random.default_rng([recipe.seed, split, index + 1])
        image, boxes, labels, areas = render_scene(rng, plan[index], CLASSES, recipe.image_size)
        file_name = f'{index:06d}.jpg'
        encoded = cv2.imencode('.jpg', image, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])[1]
        (folder / 'images' / file_name).write_bytes(encoded.tobytes())
        images.append(dict(id=index, file_name=file_name, width=width, height=height))
        for (x1, y1, x2, y2), label, area in zip(boxes.tolist(), labels.tolist(), areas.tolist()):
            annotations.append(
                dict(
                    id=len(annotations) + 1,
                    image_id=index,
                    category_id=label + 1,
                    bbox=[x1, y1, x2 - x1, y2 - y1],
                    area=area,
                    iscrowd=0,
                )
            )
    categories = [dict(id=i + 1, name=name) for i, name in enumerate(CLASSES)]
    content = dict(info=asdict(recipe), images=images, annotations=annotations)
    (folder / 'annotations.json').write_text(json.dumps(dict(content, categories=categories)))


def is_complete(recipe, folder):
    if not (folder / 'annotations.json').is_file():
        return False
    return sum(1 for _ in (folder / 'images').glob('*.jpg')) == recipe.num_images


def make_tiny_traffic(data_root=None, **recipe):
    """Makes a set of street scenes, unless it is there.

    Several processes may call this at once: one of them works, the others wait. The set appears
    under its name only when it is complete; if files are missing from it, it is made again.

    Args:
        data_root (str | Path, optional): The folder in which the set gets a folder of its own.
            Defaults to ``tiny_traffic`` in ``$MMDET_YOLO2FL_DATA`` or in the user's cache folder.
        **recipe: What it shall contain, see :class:`Recipe`.

    Returns:
        Path: The annotation file, in COCO's format. The images are in ``images`` beside it.

    Raises:
        ValueError: If the recipe is not possible.
        OSError: If the folder cannot be written.
    """
    recipe = Recipe(**recipe)
    root = Path(data_root).expanduser() if data_root else default_root()
    folder, unfinished = root / recipe.name, root / f'.{recipe.name}.unfinished'
    if is_complete(recipe, folder):
        return folder / 'annotations.json'
    try:
        root.mkdir(parents=True, exist_ok=True)
        with FileLock(root / f'.{recipe.name}.lock'):
            if not is_complete(recipe, folder):  # nobody made it while we waited
                message = f'Rendering {recipe.num_images} street scenes, once, into {folder}'
                print_log(message, logger='current')
                for remains in (folder, unfinished):
                    shutil.rmtree(remains, ignore_errors=True)
                unfinished.mkdir()
                render_set(recipe, unfinished)
                unfinished.rename(folder)
    except OSError as error:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise OSError(
            f'Cannot write the street scenes into {root} ({error}). Choose another folder with '
            'the environment variable MMDET_YOLO2FL_DATA or with data_root.'
        ) from error
    return folder / 'annotations.json'
