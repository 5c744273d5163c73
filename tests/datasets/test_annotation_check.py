"""What a look through good and bad annotations finds, beside tests/fuzz."""

import argparse
import json

import cv2
import mmcv
import numpy as np
import pytest
import torch
from mmdet.evaluation import CocoMetric
from mmdet.registry import DATASETS, TRANSFORMS
from mmengine.config import Config
from mmengine.registry import init_default_scope
from PIL import Image

from mmdet_yolo2fl.annotation_files import check_lies_as_annotated, image_size
from mmdet_yolo2fl.command_line import check_data
from mmdet_yolo2fl.datasets.annotation_check import (
    COUNTED,
    IGNORED,
    NOTHING,
    OTHER_CLASSES,
    OUTSIDE,
    TURNED,
    check_annotations,
)
from mmdet_yolo2fl.evaluators import coco_files, evaluators

NONE = 'images without objects (filter_empty_gt)'


@pytest.fixture(autouse=True)
def scope():
    init_default_scope('mmdet')


def coco(folder, **changes):
    """Two images of 60x40 pixels, the first with an object; written, and as a config."""
    content = dict(
        images=[dict(id=n, file_name=f'{n}.jpg', width=60, height=40) for n in (1, 2)],
        annotations=[dict(id=1, image_id=1, category_id=1, bbox=[5, 5, 20, 20], area=400)],
        categories=[dict(id=1, name='a')],
    )
    for number in (1, 2):
        cv2.imwrite(str(folder / f'{number}.jpg'), np.zeros((40, 60, 3), np.uint8))
    for key, value in changes.items():
        content['annotations'][0][key] = value
    (folder / 'a.json').write_text(json.dumps(content))
    return dict(
        type='CocoDataset',
        ann_file=str(folder / 'a.json'),
        data_prefix=dict(img=f'{folder}/'),
        metainfo=dict(classes=('a',)),
    )


def voc(folder):
    """The same in VOC's format, the first image with a space in its name."""
    for part in ('JPEGImages', 'Annotations', 'ImageSets/Main'):
        (folder / part).mkdir(parents=True)
    thing = '<object><name>a</name><bndbox><xmin>5</xmin><ymin>5</ymin><xmax>25</xmax>'
    thing += '<ymax>25</ymax></bndbox></object>'
    for name, things in (('my photo', thing), ('2', '')):
        cv2.imwrite(str(folder / f'JPEGImages/{name}.jpg'), np.zeros((40, 60, 3), np.uint8))
        size = '<size><width>60</width><height>40</height></size>'
        file = folder / f'Annotations/{name}.xml'
        file.write_text(f'<annotation>{size}{things}</annotation>')
    (folder / 'ImageSets/Main/train.txt').write_text('my photo\n2\n')
    return dict(
        type='XMLDataset',
        data_root=f'{folder}/',
        ann_file='ImageSets/Main/train.txt',
        data_prefix=dict(sub_data_root=''),
        metainfo=dict(classes=('a',)),
    )


@pytest.mark.parametrize('write', [coco, voc])
def test_whole_images_are_counted_as_the_data_sets_leave_them_out(tmp_path, write):
    cfg = write(tmp_path)
    for wanted, test_mode, expected in (
        (dict(filter_empty_gt=True), False, {NONE: 1}),
        (dict(filter_empty_gt=True, min_size=41), False, {NONE: 1, 'min_size': 1}),
        (dict(filter_empty_gt=False), False, {}),
        (None, False, {}),
        (dict(filter_empty_gt=True, min_size=41), True, {}),
    ):
        changed = cfg | dict(filter_cfg=wanted, test_mode=test_mode)
        found = {
            'min_size' if 'min_size' in key else key: value
            for key, value in check_annotations(changed).items()
        }
        assert found == expected
        left = 2 - sum(found.values())
        if left:  # MMEngine fails on none
            assert len(DATASETS.build(changed | dict(pipeline=[]))) == left


def test_what_pycocotools_needs(tmp_path):
    file = str(tmp_path / 'a.json')
    with pytest.raises(ValueError, match=r'annotation 1: iscrowd is missing.*add "iscrowd": 0'):
        check_annotations(coco(tmp_path), by_coco={file: False})
    with pytest.raises(ValueError, match='annotation 1: iscrowd is missing, or neither'):
        check_annotations(coco(tmp_path, iscrowd='no'), by_coco={'b.json': True, file: False})
    # Where it does not look: in other files, and at other classes.
    assert not check_annotations(coco(tmp_path), by_coco={'b.json': True})
    others = coco(tmp_path) | dict(metainfo=dict(classes=()))
    assert check_annotations(others, by_coco={file: True}) == {OTHER_CLASSES: 1}
    for number, found in ((1, []), (0, [1])):
        counted = check_annotations(coco(tmp_path, iscrowd=0, id=number), by_coco={file: False})
        assert [*counted.values()] == found
    assert 'pycocotools never finds' in next(iter(counted))
    for text in ('0', 'first'):
        with pytest.raises(ValueError, match='counts ids as numbers: number the annotations'):
            check_annotations(coco(tmp_path, iscrowd=0, id=text), by_coco={file: False})


def test_ids_that_pycocotools_cannot_sort(tmp_path):
    file = tmp_path / 'a.json'
    cfg = coco(tmp_path, iscrowd=0)
    content = json.loads(file.read_text())
    content['images'][1]['id'] = 'second'
    file.write_text(json.dumps(content))
    assert not check_annotations(cfg)
    with pytest.raises(ValueError, match='a.json: the ids of some images are numbers, those of'):
        check_annotations(cfg, by_coco={str(file): False})


@pytest.mark.parametrize('write', [coco, voc])
def test_a_validation_without_any_object_is_told(tmp_path, write, capsys):
    cfg = write(tmp_path) | dict(test_mode=True)
    assert not check_annotations(cfg)
    if write is coco:
        content = json.loads((tmp_path / 'a.json').read_text())
        (tmp_path / 'a.json').write_text(json.dumps(content | dict(annotations=[])))
    else:
        (tmp_path / 'ImageSets/Main/train.txt').write_text('2\n')
    number = 2 if write is coco else 1
    assert check_annotations(cfg) == {NOTHING: number}
    check_data(Config(dict(val_dataloader=dict(dataset=cfg))), argparse.ArgumentParser(), 'val')
    assert f'val_dataloader: nothing to measure: {number} {NOTHING}' in capsys.readouterr().out
    # Beside images with objects these are as good as others.
    other = write(tmp_path / 'other' if write is voc else tmp_path) | dict(test_mode=True)
    both = dict(type='ConcatDataset', datasets=[cfg, other])
    assert not check_annotations(both)


@pytest.mark.parametrize(
    'text, message',
    [
        ('my photo\n\n2\n', 'train.txt: line 2 names no image'),
        ('my photo\n2\n \n', 'train.txt: line 3 names no image'),
        ('\ufeffmy photo\n2\n', 'train.txt: begins with a byte order mark'),
        ('my photo\n2\n2\n', r"train.txt: names \['2'\] more than once"),
    ],
)
def test_lists_of_voc(tmp_path, text, message):
    cfg = voc(tmp_path) | dict(test_mode=True)
    (tmp_path / 'ImageSets/Main/train.txt').write_text(text, encoding='utf-8')
    with pytest.raises(ValueError, match=message):
        check_annotations(cfg)
    if 'more than once' in message:  # a training may repeat some
        assert not check_annotations(cfg | dict(test_mode=False))


def test_files_of_metrics():
    metrics = [
        dict(type='CocoMetric'),
        dict(type='VOCMetric'),
        dict(type='CocoMetric', ann_file='a'),
    ]
    config = dict(val_evaluator=metrics[2], test_evaluator=metrics, train_evaluator=None)
    found = [coco_files(config, split) for split in ('val', 'test', 'train')]
    assert found == [dict(a=False), dict(a=False), {}]
    metrics.append(dict(type='mmdet.CocoMetric', ann_file='a', classwise=True))
    assert coco_files(config, 'test') == dict(a=True)
    assert evaluators(config, 'val', 'test') == [metrics[2], *metrics]


def turn(path, orientation=6):
    """Stored as before, with a note to be turned, by default on its side."""
    image = Image.open(path)
    note = image.getexif()
    note[0x0112] = orientation
    # (OpenCV's TIFF files are compressed in a way that not every Pillow can write.)
    image.save(path, exif=note, **(dict(compression='raw') if path.suffix == '.tif' else {}))


@pytest.mark.parametrize('write', [coco, voc])
def test_an_image_that_lies_across_its_annotation(tmp_path, write, monkeypatch):
    cfg = write(tmp_path)
    assert not check_annotations(cfg, sizes=True)
    image = tmp_path / ('1.jpg' if write is coco else 'JPEGImages/my photo.jpg')
    turn(image)
    assert not check_annotations(cfg)
    message = r'{}: lies across its annotation, which says 60x40 where 40x60 are loaded'
    with pytest.raises(ValueError, match=message.format(image.name)):
        check_annotations(cfg, sizes=True)
    # Training finds it when it is loaded.
    data = DATASETS.build(cfg | dict(pipeline=[]))
    load = TRANSFORMS.build(dict(type='CheckedLoadImageFromFile'))
    with pytest.raises(ValueError, match=message.format(image.name)):
        load(data.get_data_info(0))
    assert load(data.get_data_info(1))['img'].shape == (40, 60, 3)
    as_stored = dict(type='CheckedLoadImageFromFile', color_type='color_ignore_orientation')
    assert TRANSFORMS.build(as_stored)(data.get_data_info(0))['img'].shape == (40, 60, 3)
    image.write_bytes(b'no image')
    by_pillow = dict(type='CheckedLoadImageFromFile', imdecode_backend='pillow')
    with pytest.raises(ValueError, match=f'{image.name}: not an image that can be read'):
        TRANSFORMS.build(by_pillow)(data.get_data_info(0))
    by_opencv = dict(pipeline=[dict(type='mmdet.CheckedLoadImageFromFile')])
    assert not check_annotations(cfg | by_opencv)
    with pytest.raises(ValueError, match=f'{image.name} is no image, or a damaged one'):
        check_annotations(cfg | by_opencv, sizes=True)
    # Its beginning is right, its end is missing.
    _, content = cv2.imencode('.jpg', np.random.default_rng(0).integers(0, 256, (40, 60, 3)))
    image.write_bytes(content.tobytes()[: len(content) // 4])
    assert not check_annotations(cfg | by_opencv, sizes=True)
    with pytest.raises(ValueError, match=f'{image.name} is no image, or a damaged one'):
        check_annotations(cfg | by_opencv, sizes=True, whole=True)
    image.write_bytes(b'no image')
    # Others may read what OpenCV does not.
    for steps in ([dict(type='LoadMine')], [dict(type='LoadImageFromFile', imdecode_backend='a')]):
        assert not check_annotations(cfg | dict(pipeline=steps), sizes=True)
    # Pillow is afraid of large ones, which OpenCV reads.
    cv2.imwrite(str(image), np.zeros((40, 60, 3), np.uint8))
    monkeypatch.setattr(Image, 'MAX_IMAGE_PIXELS', 60 * 40 // 3)
    assert image_size(image) == (60, 40, 0)
    assert not check_annotations(cfg | by_opencv, sizes=True)
    cv2.imwrite(str(image), np.zeros((30, 90, 3), np.uint8))
    with pytest.raises(ValueError, match=f'{image.name}.*90x30.*60x40'):
        check_annotations(cfg | by_opencv, sizes=True)
    image.unlink()
    ignoring = TRANSFORMS.build(dict(type='CheckedLoadImageFromFile', ignore_empty=True))
    assert ignoring(data.get_data_info(0)) is None


@pytest.mark.parametrize('write', [coco, voc])
def test_an_image_whose_size_does_not_tell_whether_its_boxes_turn_with_it(tmp_path, write, capsys):
    cfg = write(tmp_path)
    image = tmp_path / ('1.jpg' if write is coco else 'JPEGImages/my photo.jpg')
    cv2.imwrite(str(image), np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8))
    turn(image, 3)
    assert check_annotations(cfg, sizes=True) == {TURNED: 1}
    assert not check_annotations(cfg)
    check_data(Config(dict(val_dataloader=dict(dataset=cfg))), argparse.ArgumentParser(), 'val')
    assert f'look whether the boxes fit: 1 {TURNED}' in capsys.readouterr().out
    # Loaded as it is stored, it lies as it is annotated.
    as_stored = [dict(type='CheckedLoadImageFromFile', color_type='color_ignore_orientation')]
    for orientation in (3, 6):
        turn(image, orientation)
        assert not check_annotations(cfg | dict(pipeline=as_stored), sizes=True)
    # A square one, on its side.
    square = tmp_path / 'square.jpg'
    cv2.imwrite(str(square), np.zeros((40, 40, 3), np.uint8))
    assert check_lies_as_annotated(square, (40, 40))
    turn(square)
    assert not check_lies_as_annotated(square, (40, 40))
    # Annotated as it is shown: the size tells.
    cv2.imwrite(str(square), np.zeros((40, 60, 3), np.uint8))
    turn(square)
    assert check_lies_as_annotated(square, (40, 60))


def test_an_image_that_is_loaded_lying_but_annotated_upright(tmp_path):
    coco(tmp_path)
    image = tmp_path / '1.jpg'
    as_stored = TRANSFORMS.build(
        dict(type='CheckedLoadImageFromFile', color_type='color_ignore_orientation')
    )
    upright = dict(img_path=str(image), width=40, height=60)
    assert as_stored(dict(upright))['img'].shape == (40, 60, 3)  # exchanged by the annotation alone
    turn(image)
    with pytest.raises(ValueError, match='1.jpg: lies across its annotation, which is of 40x60'):
        as_stored(dict(upright))
    assert TRANSFORMS.build(dict(type='CheckedLoadImageFromFile'))(dict(upright))


@pytest.mark.parametrize('split', ['train', 'val', 'test'])
def test_the_tools_look_at_the_sizes_of_images_that_no_training_loads(tmp_path, capsys, split):
    cfg = Config({f'{split}_dataloader': dict(dataset=coco(tmp_path))})
    check_data(cfg, argparse.ArgumentParser(), split)
    cv2.imwrite(str(tmp_path / '2.jpg'), np.zeros((20, 30, 3), np.uint8))
    if split == 'train':
        return check_data(cfg, argparse.ArgumentParser(), split)
    with pytest.raises(SystemExit):
        check_data(cfg, argparse.ArgumentParser(), split)
    assert '2.jpg: has 30x20 pixels, but its annotation is of 60x40' in capsys.readouterr().err


def test_letters_that_pycocotools_would_read_otherwise(tmp_path, monkeypatch):
    cfg = coco(tmp_path) | dict(metainfo=dict(classes=('Schlüssel',)))
    file = tmp_path / 'a.json'
    content = json.loads(file.read_text())
    content['categories'][0]['name'] = 'Schlüssel'
    escaped, plain = json.dumps(content), json.dumps(content, ensure_ascii=False)
    for spoken, text, refused in (
        ('cp1252', escaped, False), ('UTF-8', plain, False), ('cp1252', plain, True),
    ):  # fmt: skip
        monkeypatch.setattr('locale.getpreferredencoding', lambda _, spoken=spoken: spoken)
        file.write_bytes(text.encode())
        if refused:
            with pytest.raises(ValueError, match='a.json: .* for cp1252.*PYTHONUTF8=1'):
                check_annotations(cfg)
        else:
            assert not check_annotations(cfg)


@pytest.mark.parametrize('write', [coco, voc])
def test_an_image_of_another_size_than_annotated(tmp_path, write):
    cfg = write(tmp_path)
    image = tmp_path / ('1.jpg' if write is coco else 'JPEGImages/my photo.jpg')
    for shape, refused in (((41, 61), False), ((20, 30), True), ((40, 64), True)):
        cv2.imwrite(str(image), np.zeros((*shape, 3), np.uint8))
        if not refused:
            assert not check_annotations(cfg, sizes=True)
            continue
        message = f'{image.name}: has {shape[1]}x{shape[0]} pixels, but its annotation is of 60x40'
        with pytest.raises(ValueError, match=message):
            check_annotations(cfg, sizes=True)
    # Training finds it when it is loaded.
    load = TRANSFORMS.build(dict(type='CheckedLoadImageFromFile'))
    with pytest.raises(ValueError, match=message):
        load(DATASETS.build(cfg | dict(pipeline=[])).get_data_info(0))


def test_what_is_ignored_is_counted(tmp_path):
    cfg = coco(tmp_path, iscrowd=1)
    assert check_annotations(cfg) == {IGNORED: 1}
    cfg = voc(tmp_path / 'voc')
    path = tmp_path / 'voc/Annotations/my photo.xml'
    path.write_text(path.read_text().replace('<bndbox>', '<difficult>1</difficult><bndbox>'))
    assert check_annotations(cfg) == {IGNORED: 1}


def test_images_of_voc_with_another_suffix(tmp_path):
    cfg = voc(tmp_path)
    (tmp_path / 'JPEGImages/2.jpg').rename(tmp_path / 'JPEGImages/2.JPG')
    message = "'2': there is .*2.JPG, but MMDetection's XMLDataset reads .jpg only: rename"
    with pytest.raises(FileNotFoundError, match=message):
        check_annotations(cfg)


def test_sizes_exchanged_in_the_annotation_alone(tmp_path):
    """The boxes may be right, MMDetection does not look at the sizes; or the images were turned."""
    cfg = coco(tmp_path)
    for number in (1, 2):
        cv2.imwrite(str(tmp_path / f'{number}.jpg'), np.zeros((60, 40, 3), np.uint8))
    assert check_annotations(cfg, sizes=True) == {TURNED: 2}
    data = DATASETS.build(cfg | dict(pipeline=[]))
    load = TRANSFORMS.build(dict(type='CheckedLoadImageFromFile'))
    assert load(data.get_data_info(0))['img'].shape == (60, 40, 3)


@pytest.mark.parametrize('suffix', ['.jpg', '.png', '.webp', '.tif'])
def test_sizes_are_those_that_are_loaded(tmp_path, suffix):
    """OpenCV follows the note in some formats, and Pillow in others."""
    file = tmp_path / f'a{suffix}'
    cv2.imwrite(str(file), np.zeros((40, 60, 3), np.uint8))
    assert image_size(file) == (60, 40, 0)
    turn(file)
    assert image_size(file)[:2] == mmcv.imread(file).shape[1::-1]
    cv2.imwrite(str(file), np.zeros((40, 40, 3), np.uint8))
    turn(file)
    # Of TIFF Pillow gives the turned size, and takes the note away.
    assert image_size(file) == (40, 40, 0 if suffix == '.tif' else 6)


def test_a_note_that_is_text(tmp_path):
    file = tmp_path / 'a.jpg'
    # One entry: orientation, ASCII, of two bytes.
    entry = (0x0112).to_bytes(2, 'little') + b'\2\0\2\0\0\0' + b'6\0\0\0'
    note = b'Exif\0\0II*\0\x08\0\0\0\1\0' + entry + bytes(4)
    Image.new('RGB', (60, 40)).save(file, exif=note)
    assert Image.open(file).getexif()[0x0112] == '6'
    assert image_size(file) == (60, 40, 0)


@pytest.mark.parametrize(
    'box, found',
    [
        ([45, 5, 10, 20], {}),
        ([5, 35, 10, 20], {}),
        ([5, 45, 10, 20], {OUTSIDE: 1}),
        ([65, 5, 10, 20], {OUTSIDE: 1}),
        ([5, 5, 20, 0.5], {'boxes of less than a pixel': 1}),
        ([5, 5, 0.5, 20], {'boxes of less than a pixel': 1}),
    ],
)
def test_boxes_that_are_left_out(tmp_path, box, found):
    assert check_annotations(coco(tmp_path, bbox=box)) == found
    # The metric that reads the file counts them.
    read = check_annotations(
        coco(tmp_path, bbox=box, iscrowd=0), by_coco={str(tmp_path / 'a.json'): False}
    )
    assert read == {f'{reason}{COUNTED}': number for reason, number in found.items()}


@pytest.mark.parametrize('area', [0, -3])
def test_a_box_without_an_area_of_its_own(tmp_path, area):
    assert check_annotations(coco(tmp_path, area=area)) == {'boxes whose "area" is not positive': 1}


def test_what_the_evaluation_counts_as_missed(tmp_path):
    """The only object is found exactly; what the data set leaves out costs AP."""
    cfg = coco(tmp_path, iscrowd=0)
    file = tmp_path / 'a.json'
    content = json.loads(file.read_text())
    first = content['annotations'][0]
    content['annotations'] += [dict(first, id=2, ignore=1), dict(first, id=3, bbox=[5, 5, 20, 0])]
    file.write_text(json.dumps(content))
    found = check_annotations(cfg, by_coco={str(file): False})
    assert len(found) == 2 and all(reason.endswith(COUNTED) for reason in found)
    metric = CocoMetric(ann_file=str(file))
    metric.dataset_meta = dict(classes=('a',))
    box = torch.tensor([[5.0, 5.0, 25.0, 25.0]])
    instances = dict(bboxes=box, scores=torch.ones(1), labels=torch.zeros(1, dtype=torch.long))
    for number in (1, 2):
        some = {key: value[: 2 - number] for key, value in instances.items()}
        metric.process({}, [dict(img_id=number, ori_shape=(40, 60), pred_instances=some)])
    assert metric.evaluate(2)['coco/bbox_mAP_50'] == pytest.approx(1 / 3, abs=0.01)


def test_categories_whose_ids_do_not_ascend(tmp_path):
    cfg = coco(tmp_path, iscrowd=0) | dict(metainfo=dict(classes=('a', 'b')))
    file = tmp_path / 'a.json'
    content = json.loads(file.read_text())
    for ids, refused in (((1, 2), False), ((1, 0), True), (('9', '10'), True)):
        content['categories'] = [dict(id=i, name=name) for i, name in zip(ids, 'ab')]
        content['annotations'][0]['category_id'] = ids[0]
        file.write_text(json.dumps(content))
        assert not check_annotations(cfg, by_coco={str(file): False})
        if not refused:
            assert not check_annotations(cfg, by_coco={str(file): True})
            continue
        with pytest.raises(ValueError, match='the ids of the categories, .* do not ascend'):
            check_annotations(cfg, by_coco={str(file): True})


@pytest.mark.parametrize('left, found', [(60, {}), (61, {OUTSIDE: 1})])
def test_voc_counts_pixels_from_one(tmp_path, left, found):
    cfg = voc(tmp_path)
    path = tmp_path / 'Annotations/my photo.xml'
    text = path.read_text().replace('<xmin>5<', f'<xmin>{left}<').replace('<xmax>25<', '<xmax>75<')
    path.write_text(text)
    assert check_annotations(cfg) == found
    if found:
        assert check_annotations(cfg | dict(test_mode=True)) == {f'{OUTSIDE}{COUNTED}': 1}


def test_categories_of_one_name(tmp_path):
    cfg = coco(tmp_path)
    file = tmp_path / 'a.json'
    content = json.loads(file.read_text())
    content['categories'] = [dict(id=0, name='a'), dict(id=1, name='a')]
    file.write_text(json.dumps(content))
    with pytest.raises(ValueError, match="a.json: two categories of one name, 'a': merge them"):
        check_annotations(cfg)
    # As long as the config has nothing to do with them.
    content['categories'] = [dict(id=1, name='a'), dict(id=2, name='b'), dict(id=3, name='b')]
    file.write_text(json.dumps(content))
    assert not check_annotations(cfg)


@pytest.mark.parametrize('encoding', ['utf-8-sig', 'utf-16', 'utf-16-le'])
def test_a_file_of_another_encoding_is_named(tmp_path, encoding):
    """pycocotools does not read such a file either, and does not say which."""
    cfg = coco(tmp_path)
    file = tmp_path / 'a.json'
    file.write_text(file.read_text(), encoding=encoding)
    with pytest.raises(ValueError, match=f'a.json: no JSON for .* encoding is {encoding}'):
        check_annotations(cfg)


def test_an_image_of_several_records(tmp_path):
    """Some converters write one for each box; each would have the other objects as background."""
    cfg = coco(tmp_path)
    file = tmp_path / 'a.json'
    content = json.loads(file.read_text())
    content['images'].append(dict(content['images'][0], id=3))
    file.write_text(json.dumps(content))
    with pytest.raises(ValueError, match='1.jpg is image 1 and image 3, with other boxes'):
        check_annotations(cfg)
    # Shown twice on purpose, it has its boxes twice.
    content['annotations'].append(dict(content['annotations'][0], id=2, image_id=3))
    file.write_text(json.dumps(content))
    assert not check_annotations(cfg)


def test_remote_files_are_passed_over(tmp_path):
    cfg = coco(tmp_path)
    assert not check_annotations(cfg | dict(ann_file='https://example.org/a.json'))
    for number in (1, 2):
        (tmp_path / f'{number}.jpg').unlink()
    assert not check_annotations(cfg | dict(data_prefix=dict(img='s3://bucket/images/')))
    with pytest.raises(FileNotFoundError, match='there is no image'):
        check_annotations(cfg)
