"""What a look through good and bad annotations finds, beside tests/fuzz."""

import json

import cv2
import numpy as np
import pytest
from mmdet.registry import DATASETS, TRANSFORMS
from mmengine.registry import init_default_scope
from PIL import Image

from mmdet_yolo2fl.datasets.annotation_check import check_annotations

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
    with pytest.raises(ValueError, match=r'annotation 1: iscrowd is missing.*add "iscrowd": 0'):
        check_annotations(coco(tmp_path), by_coco=True)
    with pytest.raises(ValueError, match='annotation 1: iscrowd is missing, or neither'):
        check_annotations(coco(tmp_path, iscrowd='no'), by_coco=True)
    assert not check_annotations(coco(tmp_path))
    for number, found in ((1, []), (0, [1])):
        counted = check_annotations(coco(tmp_path, iscrowd=0, id=number), by_coco=True)
        assert [*counted.values()] == found
    assert 'pycocotools never finds' in next(iter(counted))


def turn(path):
    """Stored as before, with a note to be turned on its side."""
    image = Image.open(path)
    note = image.getexif()
    note[0x0112] = 6
    image.save(path, exif=note)


@pytest.mark.parametrize('write', [coco, voc])
def test_an_image_that_lies_across_its_annotation(tmp_path, write):
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
    assert not check_annotations(cfg, sizes=True)


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


def test_a_byte_order_mark_is_named(tmp_path):
    """pycocotools does not read such a file either, and does not say which."""
    cfg = coco(tmp_path)
    file = tmp_path / 'a.json'
    file.write_bytes(b'\xef\xbb\xbf' + file.read_bytes())
    with pytest.raises(ValueError, match='a.json: no JSON.*BOM'):
        check_annotations(cfg)
