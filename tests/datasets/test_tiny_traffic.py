import json
import os
import shutil
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmdet.evaluation import CocoMetric
from mmdet.registry import DATASETS
from mmengine.registry import DefaultScope
from pycocotools.coco import COCO

from mmdet_yolo2fl.datasets import TinyTrafficDataset, make_tiny_traffic
from mmdet_yolo2fl.datasets.tiny_traffic import make, scene
from tests.processes import context

SMALL = dict(split='val', num_images=6, image_size=(192, 128))
CLASSES = TinyTrafficDataset.METAINFO['classes']
EVEN = (0.25, 0.25, 0.25, 0.25)


@pytest.fixture(scope='module')
def root(tmp_path_factory):
    return tmp_path_factory.mktemp('tiny_traffic')


@pytest.fixture(scope='module')
def default_like(root):
    """The default kind of set, but short."""
    return make_tiny_traffic(root, num_images=30)


def contents(ann_file):
    folder = Path(ann_file).parent
    files = (path for path in folder.rglob('*') if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def images(ann_file):
    return {k: v for k, v in contents(ann_file).items() if k.endswith('.jpg')}


def test_same_arguments_same_bytes(tmp_path, root):
    first = make_tiny_traffic(root, **SMALL)
    assert contents(first) == contents(make_tiny_traffic(tmp_path, **SMALL))
    assert len(contents(first)) == SMALL['num_images'] + 1


@pytest.mark.parametrize(
    'change',
    [
        dict(seed=1),
        dict(split='train'),
        dict(split='test'),
        dict(image_size=(192, 160)),
        dict(class_frequencies=EVEN),
    ],
)
def test_other_arguments_other_folder_and_images(root, change):
    first, other = make_tiny_traffic(root, **SMALL), make_tiny_traffic(root, **{**SMALL, **change})
    assert first.parent != other.parent
    assert not set(images(first).values()) & set(images(other).values())


def test_equal_arguments_in_other_types_share_a_folder(root):
    other = dict(SMALL, image_size=np.array([192, 128]), seed=np.int64(0), split='val')
    assert make.Recipe(**other).name == make.Recipe(**SMALL).name
    shares = make.Recipe(class_frequencies=(80, 10, 6, 4)).class_frequencies
    assert shares == pytest.approx((0.8, 0.1, 0.06, 0.04))


def test_changed_renderer_changes_the_folder(monkeypatch):
    before = make.Recipe().name
    read = Path.read_bytes
    edited = lambda path: read(path) + (b'#' if path.name == 'scene.py' else b'')  # noqa: E731
    monkeypatch.setattr(Path, 'read_bytes', edited)
    assert make.Recipe().name != before


def test_coco_format(default_like):
    coco = COCO(str(default_like))
    assert [c['name'] for c in coco.loadCats(coco.getCatIds())] == list(CLASSES)
    assert len(coco.getImgIds()) == 30
    for info in coco.loadImgs(coco.getImgIds()):
        picture = cv2.imread(str(default_like.parent / 'images' / info['file_name']))
        assert picture.shape == (info['height'], info['width'], 3) == (256, 416, 3)
        annotations = coco.loadAnns(coco.getAnnIds(info['id']))
        assert 1 <= len(annotations) <= scene.OBJECTS[1]
        for annotation in annotations:
            x, y, w, h = annotation['bbox']
            assert x >= 0 and y >= 0 and x + w <= 416 and y + h <= 256
            assert w >= scene.MIN_BOX[0] and h >= scene.MIN_BOX[1]
            assert 0 < annotation['area'] <= w * h
            assert annotation['iscrowd'] == 0


def test_pictures_vary_and_are_not_blank(default_like):
    pictures = [cv2.imread(str(p)) for p in sorted(default_like.parent.glob('images/*.jpg'))]
    means = [picture.mean() for picture in pictures]
    assert min(means) < 80 < 120 < max(means)  # dusk and day
    assert min(picture.std() for picture in pictures) > 10


@pytest.mark.parametrize('seed', range(8))
def test_boxes_are_tight_around_what_can_be_seen(seed):
    """Recolouring an object changes its visible pixels and no other."""
    rng = np.random.default_rng(seed)
    street = scene.arrange(rng, [0, 0, 0, 1, 1, 2, 2, 3, 3], CLASSES, (416, 256))
    boxes, areas = scene.measure(street)
    plain, _ = scene.paint(street, np.random.default_rng(seed))
    assert sum(sprite.label >= 0 for sprite in street.sprites) >= 7
    for sprite, box, area in zip(street.sprites, boxes, areas):
        if sprite.label < 0:
            continue
        original, sprite.image = sprite.image, 255 - sprite.image
        recoloured, _ = scene.paint(street, np.random.default_rng(seed))
        sprite.image = original
        rows, columns = np.nonzero((plain != recoloured).any(axis=2))
        corners = columns.min(), rows.min(), columns.max() + 1, rows.max() + 1
        np.testing.assert_array_equal(box * scene.SCALE, corners)
        assert area * scene.SCALE**2 == len(rows)


@pytest.mark.parametrize('seed', range(5))
def test_every_object_is_labelled_and_well_visible(seed):
    crowd = [0] * 12
    street = scene.arrange(np.random.default_rng(seed), crowd, CLASSES, (416, 256))
    drawn = [sprite.label >= 0 for sprite in street.sprites]
    _, areas = scene.measure(street)
    for sprite, area in zip(street.sprites, areas):
        if sprite.label >= 0:
            assert area * scene.SCALE**2 >= scene.MIN_VISIBLE * sprite.full_area
    rendered = scene.render_scene(np.random.default_rng(seed), crowd, CLASSES, (416, 256))
    assert len(rendered[1]) == sum(drawn) > 3


def test_scene_without_objects():
    image, boxes, labels, areas = scene.render_scene(
        np.random.default_rng(0), [], CLASSES, (96, 64)
    )
    assert image.shape == (64, 96, 3) and image.dtype == np.uint8
    assert boxes.shape == (0, 4) and labels.shape == areas.shape == (0,)


@pytest.mark.parametrize('frequencies', [(0.80, 0.10, 0.06, 0.04), EVEN, (0, 0, 3, 1)])
@pytest.mark.parametrize('num_images', [1, 7, 1000])
def test_planned_classes_are_the_expected_ones(frequencies, num_images):
    recipe = make.Recipe(num_images=num_images, class_frequencies=frequencies)
    plan = make.plan_classes(recipe)
    assert len(plan) == num_images
    assert {len(classes) for classes in plan} <= set(range(scene.OBJECTS[0], scene.OBJECTS[1] + 1))
    counts = np.bincount(np.concatenate(plan), minlength=4)
    expected = np.array(recipe.class_frequencies) * counts.sum()
    assert np.abs(counts - expected).max() < 1


def test_made_classes_are_close_to_the_plan(default_like):
    planned = np.concatenate(make.plan_classes(make.Recipe(num_images=30)))
    made = Counter(
        a['category_id'] - 1 for a in json.loads(default_like.read_text())['annotations']
    )
    for index in range(4):
        wanted = int((planned == index).sum())
        assert 0.9 * wanted <= made[index] <= wanted


def test_builds_from_a_config_and_feeds_a_pipeline(root):
    steps = ('LoadImageFromFile', 'LoadAnnotations', 'PackDetInputs')
    pipeline = [dict(type=step) for step in steps]
    pipeline[1]['with_bbox'] = True
    config = dict(type='TinyTrafficDataset', data_root=str(root), pipeline=pipeline, **SMALL)
    with DefaultScope.overwrite_default_scope('mmdet'):
        dataset = DATASETS.build(config)
    assert len(dataset) == 6
    sample = dataset[0]
    assert sample['inputs'].shape == (3, 128, 192)
    annotations = json.loads(Path(dataset.ann_file).read_text())['annotations']
    first = [a for a in annotations if a['image_id'] == sample['data_samples'].img_id]
    truths = sample['data_samples'].gt_instances
    assert truths.labels.tolist() == [a['category_id'] - 1 for a in first]
    x, y, w, h = first[0]['bbox']
    assert truths.bboxes[0].tensor[0].tolist() == [x, y, x + w, y + h]


def test_coco_metric_finds_the_truth_perfect(root, default_like):
    dataset = TinyTrafficDataset(num_images=30, data_root=root, test_mode=True)
    metric = CocoMetric(ann_file=dataset.ann_file, classwise=True)
    metric.dataset_meta = dataset.metainfo
    for index in range(len(dataset)):
        info = dataset.get_data_info(index)
        boxes = torch.tensor([i['bbox'] for i in info['instances']])
        labels = torch.tensor([i['bbox_label'] for i in info['instances']])
        predicted = dict(bboxes=boxes, labels=labels, scores=torch.full((len(labels),), 0.9))
        metric.process(
            {}, [dict(img_id=info['img_id'], ori_shape=(256, 416), pred_instances=predicted)]
        )
    result = metric.evaluate(len(dataset))
    assert result['coco/bbox_mAP'] == pytest.approx(1)
    assert result['coco/cyclist_precision'] == pytest.approx(1)


def test_classes_can_be_chosen(root):
    some = TinyTrafficDataset(data_root=root, metainfo=dict(classes=('car', 'cyclist')), **SMALL)
    labels = {i['bbox_label'] for n in range(len(some)) for i in some.get_data_info(n)['instances']}
    assert labels <= {0, 1} and 0 in labels
    # MMDetection would give the cars the name of the cyclists.
    with pytest.raises(ValueError, match=r"in that order .*, got \['cyclist', 'car'\]"):
        TinyTrafficDataset(data_root=root, metainfo=dict(classes=('cyclist', 'car')), **SMALL)


def test_lazy_init_makes_nothing(tmp_path):
    dataset = TinyTrafficDataset(data_root=tmp_path, lazy_init=True, **SMALL)
    assert dataset.metainfo['classes'] == CLASSES
    assert len(dataset.metainfo['palette']) == len(CLASSES)
    assert list(tmp_path.iterdir()) == []
    dataset.full_init()
    assert len(dataset) == 6 and Path(dataset.ann_file).is_file()


def test_folder_from_the_environment(tmp_path, monkeypatch):
    monkeypatch.setenv('MMDET_YOLO2FL_DATA', str(tmp_path))
    dataset = TinyTrafficDataset(lazy_init=True)
    assert Path(dataset.ann_file).parents[1] == tmp_path / 'tiny_traffic'


def test_half_made_set_is_made_again(tmp_path, root):
    whole = contents(make_tiny_traffic(root, **SMALL))
    ann_file = make_tiny_traffic(tmp_path, **SMALL)
    (ann_file.parent / 'images' / '000003.jpg').unlink()
    assert contents(make_tiny_traffic(tmp_path, **SMALL)) == whole
    ann_file.unlink()
    assert contents(make_tiny_traffic(tmp_path, **SMALL)) == whole


def test_interrupted_making_leaves_no_set_and_is_repeated(tmp_path, root, monkeypatch):
    render, calls = scene.render_scene, []

    def interrupted(*args):
        calls.append(args)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return render(*args)

    monkeypatch.setattr(make, 'render_scene', interrupted)
    with pytest.raises(KeyboardInterrupt):
        make_tiny_traffic(tmp_path, **SMALL)
    assert not list(tmp_path.glob('val_*')) and list(tmp_path.glob('.val_*/images/000000.jpg'))
    monkeypatch.undo()
    again = make_tiny_traffic(tmp_path, **SMALL)
    assert contents(again) == contents(make_tiny_traffic(root, **SMALL))
    assert [path.name for path in tmp_path.iterdir() if path.is_dir()] == [again.parent.name]


def test_made_set_is_not_touched_again(tmp_path, root, monkeypatch):
    shutil.copytree(make_tiny_traffic(root, **SMALL).parent, tmp_path / make.Recipe(**SMALL).name)
    monkeypatch.setattr(make, 'render_set', None)
    assert make_tiny_traffic(tmp_path, **SMALL).is_file()


def print_to(log):
    file = os.open(log, os.O_APPEND | os.O_CREAT | os.O_WRONLY)
    os.dup2(file, 1)
    os.dup2(file, 2)


def test_several_processes_make_one_set(tmp_path, root):
    log = tmp_path / 'log.txt'
    with ProcessPoolExecutor(3, context(), initializer=print_to, initargs=(log,)) as pool:
        jobs = [pool.submit(make_tiny_traffic, tmp_path, **SMALL) for _ in range(3)]
        (ann_file,) = {job.result(timeout=300) for job in jobs}
    assert contents(ann_file) == contents(make_tiny_traffic(root, **SMALL))
    assert [path for path in tmp_path.iterdir() if path.is_dir()] == [ann_file.parent]
    assert log.read_text().count('Rendering 6 street scenes') == 1


@pytest.mark.parametrize(
    'bad, message',
    [
        (dict(split='trian'), "'train', 'val' or 'test', not 'trian'"),
        (dict(num_images=0), 'num_images'),
        (dict(num_images=2.5), 'num_images'),
        (dict(seed=-1), 'seed'),
        (dict(image_size=(416, 63)), 'at least 64'),
        (dict(image_size=(416,)), 'width, height'),
        (dict(class_frequencies=(0.5, 0.5)), 'must have 4 values'),
        (dict(class_frequencies=(0, 0, 0, 0)), 'not all zero'),
        (dict(class_frequencies=(1, -0.5, 1, 1)), 'not negative'),
        (dict(class_frequencies=(1, float('nan'), 1, 1)), 'finite'),
        (dict(ann_file='mine.json'), 'takes no ann_file'),
        (dict(data_prefix=dict(img='mine')), 'takes no data_prefix'),
    ],
)
def test_bad_arguments(tmp_path, bad, message):
    with pytest.raises(ValueError, match=message):
        TinyTrafficDataset(data_root=tmp_path, lazy_init=True, **bad)
    assert list(tmp_path.iterdir()) == []


def test_folder_that_cannot_be_written(tmp_path):
    (tmp_path / 'file').write_text('')
    with pytest.raises(OSError, match='MMDET_YOLO2FL_DATA'):
        make_tiny_traffic(tmp_path / 'file', **SMALL)
