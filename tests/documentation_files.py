"""A copy of the project, and beside it what the documentation speaks of: photos, data, weights."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np

from mmdet_yolo2fl.datasets import make_tiny_traffic

from .darknet import networks
from .documentation import ROOT

VOC_CLASSES = ('person', 'car', 'dog', 'bus')
BCCD_CLASSES = ('RBC', 'RBC', 'WBC', 'Platelets')
OBJECT = (
    '<object><name>{}</name><difficult>0</difficult><bndbox><xmin>{}</xmin>'
    '<ymin>{}</ymin><xmax>{}</xmax><ymax>{}</ymax></bndbox></object>'
)

# The embedded scenes, cut down.
SMALL = """
train_dataloader['dataset'].update(num_images=16)
val_dataloader['dataset'].update(num_images=8)
"""
# Stands for the one file that a page fetches: random numbers.
WGET = """#!/bin/sh
test "$1 $3" = "-P https://pjreddie.com/media/files/darknet19_448.conv.23" || exit 1
cd {root} && {python} -c "
from pathlib import Path
from tests.documentation_files import write_darknet19
write_darknet19(Path('$OLDPWD', '$2', 'darknet19_448.conv.23'))"
"""


def copy_project(folder: Path) -> None:
    """What git knows or would add; all of it where there is no git."""
    command = ['git', 'ls-files', '--cached', '--others', '--exclude-standard']
    try:
        listed = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    except (OSError, subprocess.CalledProcessError):
        own = shutil.ignore_patterns(
            '.*', '__pycache__', 'data', 'work_dirs', folder.name, folder.parent.name
        )
        shutil.copytree(ROOT, folder, ignore=own, dirs_exist_ok=True)
        return
    for name in listed.stdout.splitlines():
        file = ROOT / name
        # Not if deleted since the last commit, or a copy from an earlier run.
        if file.is_file() and folder.parent not in file.parents:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(file, folder / name)


def make_project(folder: Path) -> None:
    """The copy with small embedded scenes, this Python in its `bin`, and the files."""
    copy_project(folder)
    with open(folder / 'configs/_base_/datasets/tiny_traffic.py', 'a') as config:
        config.write(SMALL)
    (folder / 'bin').mkdir()
    for name, text in (
        ('python', f'#!/bin/sh\nexec {sys.executable} "$@"\n'),
        ('pip', f'#!/bin/sh\nexec {sys.executable} -m pip "$@"\n'),
        ('wget', WGET.format(root=ROOT, python=sys.executable)),
    ):
        (folder / 'bin' / name).write_text(text)
        (folder / 'bin' / name).chmod(0o755)
    write_files(folder)


def write_files(root: Path) -> None:
    """Fill a copy of the project with what a user would have beside it."""
    scenes = make_tiny_traffic(root / 'scenes', seed=0, num_images=12, image_size=(416, 256))
    content = json.loads(scenes.read_text())
    images = scenes.parent / 'images'
    files = sorted(images.iterdir())
    for folder in ('photos', 'new_photos', 'train2017'):
        shutil.copytree(images, root / folder)
    pixels = [cv2.imread(str(file)) for file in files]
    cv2.imwrite(str(root / 'photo.jpg'), pixels[0])
    (root / 'more/one').mkdir(parents=True)
    cv2.imwrite(str(root / 'more/one/1.png'), pixels[1])
    film = cv2.VideoWriter(str(root / 'film.mp4'), cv2.VideoWriter_fourcc(*'mp4v'), 5, (416, 256))
    for image in pixels[:5]:
        film.write(image)
    film.release()
    (root / 'annotations').mkdir()
    for name in ('train.json', 'val.json', 'annotations/train.json'):
        (root / name).write_text(json.dumps(content))
    write_voc(root / 'data/bccd', content, pixels, BCCD_CLASSES)
    for year in (2007, 2012):
        write_voc(root / f'data/VOCdevkit/VOC{year}', content, pixels, VOC_CLASSES)
    networks.write(root, 'yolov2-voc', **networks.NETWORKS['yolov2-voc'], width=0.25, fine=64)


def write_voc(root, content, pixels, classes):
    """The scenes once more, under other names, as VOC's folders."""
    for folder in ('JPEGImages', 'Annotations', 'ImageSets/Main'):
        (root / folder).mkdir(parents=True)
    names = [f'{number:06}' for number in range(len(pixels))]
    for name, image, about in zip(names, pixels, content['images']):
        cv2.imwrite(str(root / f'JPEGImages/{name}.jpg'), image)
        text = '<size><width>{width}</width><height>{height}</height><depth>3</depth></size>'
        text = text.format(**about)
        for box in content['annotations']:
            if box['image_id'] == about['id']:
                x, y, w, h = np.rint(box['bbox']).astype(int)
                label = classes[box['category_id'] % len(classes)]
                text += OBJECT.format(label, x + 1, y + 1, x + w, y + h)
        (root / f'Annotations/{name}.xml').write_text(f'<annotation>{text}</annotation>')
    for split in ('train', 'val', 'trainval', 'test'):
        (root / f'ImageSets/Main/{split}.txt').write_text('\n'.join(names))


def write_darknet19(path: Path) -> None:
    """As darknet19_448.conv.23, with random weights."""
    backbone = networks.cfg_text(networks.DARKNET19, width=1)
    shapes = networks.layer_sizes(backbone)[:-1]
    size = sum(f * (c * k * k + 4) for c, f, k, _ in shapes)
    path.write_bytes(networks.random_weights(backbone, seed=0)[: 20 + 4 * size])
