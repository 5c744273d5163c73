"""Darknet's data sets to COCO and back."""

import json
import shutil

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mmdet.datasets import CocoDataset
from PIL import Image
from pycocotools.coco import COCO

from mmdet_yolo2fl.darknet.data_set import coco_to_darknet, darknet_to_coco, label_path

LABELS = {
    'images/a.jpg': '0 0.5 0.5 0.25 0.5\n1 0.125 0.25 0.25 0.5\n',
    'images/sub/a.jpg': '2 0.9 0.9 0.2 0.2\n',
    'images/empty.jpg': '',
    'images/none.jpg': None,
}
SIZES = {'images/a.jpg': (64, 32)}


def make_set(root, labels=LABELS, names='car\nred bus\nüber\n', split='train', data=''):
    """A data set as Darknet has it; ``labels`` by image."""
    root.mkdir(parents=True, exist_ok=True)
    for name, text in labels.items():
        image = root / name
        image.parent.mkdir(parents=True, exist_ok=True)
        Image.new('RGB', SIZES.get(name, (100, 50))).save(image)
        label = root / name.replace('images/', 'labels/').replace('.jpg', '.txt')
        label.parent.mkdir(parents=True, exist_ok=True)
        if text is not None:
            label.write_bytes(text.encode())
    (root / f'{split}.txt').write_text(''.join(f'{root / name}\n' for name in labels))
    (root / 'obj.names').write_text(names, encoding='utf-8')
    count = len(names.split('\n')) - 1
    path = root / 'obj.data'
    path.write_text(
        f'classes= {count}\n{split}  = {root}/{split}.txt\nnames = {root}/obj.names\n'
        f'backup = backup/\n{data}'
    )
    return path


def convert(root, out, **kwargs):
    report, names, image_root, _ = darknet_to_coco(root / 'obj.data', out, **kwargs)
    return json.loads((out / 'train.json').read_text()), report, names, image_root


def test_known_boxes(tmp_path):
    make_set(tmp_path / 'set')
    coco, report, names, root = convert(tmp_path / 'set', tmp_path / 'out')
    assert names == ['car', 'red bus', 'über']
    assert [one['name'] for one in coco['categories']] == names
    assert root == tmp_path / 'set' / 'images'
    assert [(i['file_name'], i['width'], i['height']) for i in coco['images']] == [
        ('a.jpg', 64, 32),
        ('sub/a.jpg', 100, 50),
        ('empty.jpg', 100, 50),
        ('none.jpg', 100, 50),
    ]
    boxes = [(a['image_id'], a['category_id'], a['bbox'], a['area']) for a in coco['annotations']]
    assert boxes[:2] == [(1, 1, [24.0, 8.0, 16.0, 16.0], 256.0), (1, 2, [0, 0, 16.0, 16.0], 256.0)]
    assert boxes[2][:2] == (2, 3)
    np.testing.assert_allclose(boxes[2][2], [80, 40, 20, 10])
    assert report.counts == {
        'images': 4,
        'boxes': 3,
        'images without a label file (no objects)': 1,
    }


def test_pycocotools_and_mmdetection_read_it(tmp_path):
    make_set(tmp_path / 'set')
    coco, _, names, root = convert(tmp_path / 'set', tmp_path / 'out')
    assert len(COCO(tmp_path / 'out' / 'train.json').getAnnIds()) == 3
    dataset = CocoDataset(
        ann_file=str(tmp_path / 'out' / 'train.json'),
        data_prefix=dict(img=f'{root}/'),
        metainfo=dict(classes=tuple(names)),
        pipeline=[],
    )
    infos = [dataset.get_data_info(i) for i in range(len(dataset))]
    assert [info['img_path'] for info in infos] == [str(tmp_path / 'set' / n) for n in LABELS]
    first = infos[0]['instances']
    assert [one['bbox_label'] for one in first] == [0, 1]
    np.testing.assert_allclose(first[0]['bbox'], [24, 8, 40, 24])


BAD = {
    '0 0.5 0.5 0.5': '4 fields',
    '0 0.5 0.5 0.5 0.5 0.9': '6 fields',
    'car 0.5 0.5 0.5 0.5': "class 'car' is no integer",
    '0.0 0.5 0.5 0.5 0.5': "class '0.0' is no integer",
    '3 0.5 0.5 0.5 0.5': r'class 3, expected 0..2',
    '-1 0.5 0.5 0.5 0.5': 'class -1',
    '0 x 0.5 0.5 0.5': 'not four numbers',
    '0 nan 0.5 0.5 0.5': 'not finite',
    '0 0.5 0.5 inf 0.5': 'not finite',
    '0 0.5 0.5 0 0.5': 'a width of 0.0',
    '0 0.5 0.5 0.5 -0.5': 'a height of -0.5',
    '0 0.5 0.5 50 0.5': 'a width of 50.0',
    '0 1.5 0.5 0.5 0.5': 'lies outside the image',
}


def test_every_bad_line_is_reported(tmp_path):
    good = '0 0.5 0.5 0.25 0.5\r\n'
    text = '\ufeff' + good + ''.join(f'{line}\n' for line in BAD) + '\n' + good
    make_set(tmp_path, {'images/a.jpg': text, 'images/b.jpg': '1 0.5 0.5 0.1 0.1'})
    (tmp_path / 'images' / 'broken.jpg').write_bytes(b'no image')
    with open(tmp_path / 'train.txt', 'a') as file:
        file.write(f'{tmp_path}/images/gone.jpg\n\n{tmp_path}/images/a.jpg\n')
        file.write(f'{tmp_path}/images/broken.jpg\n')
    out = tmp_path / 'out'
    report, *_ = darknet_to_coco(tmp_path / 'obj.data', out)
    assert not out.exists()
    label, listed = tmp_path / 'labels' / 'a.txt', tmp_path / 'train.txt'
    expected = [(f'{label}:{number}', what) for number, what in enumerate(BAD.values(), 2)]
    expected += [(f'{listed}:3', 'no such image'), (f'{listed}:5', 'stands at line 1 too')]
    expected += [(f'{listed}:6', 'not an image')]
    assert len(report.bad) == len(expected)
    for where, what in expected:
        assert any(line.startswith(f'{where}: ') and what in line for line in report.bad), where
    # on demand the rest is written
    coco, report, _, _ = convert(tmp_path, out, skip_bad=True)
    assert len(coco['images']) == 2 and len(coco['annotations']) == 3
    assert report.counts['bad: class'] == 4


def test_boxes_over_the_border_are_clipped(tmp_path):
    make_set(tmp_path, {'images/a.jpg': '0 0 0.5 0.5 0.5\n0 0.5 0.9999999 0.1 0.0000004'})
    coco, report, _, _ = convert(tmp_path, tmp_path / 'out')
    assert coco['annotations'][0]['bbox'] == [0, 8, 16, 16]
    assert report.counts['boxes clipped to the image (as Darknet does)'] == 1


def test_labels_beside_the_image_and_in_voc_folders(tmp_path):
    for image, label in (
        ('VOC/JPEGImages/a.jpg', 'VOC/labels/a.txt'),
        ('images/images/a.jpg', 'images/labels/a.txt'),
        ('images/set1/images/a.jpg', 'labels/set1/images/a.txt'),
        ('beside/b.png', 'beside/b.txt'),
        ('train_images/a.jpg', 'train_labels/a.txt'),
        ('raw/a.JPG', 'labels/a.txt'),
    ):
        (tmp_path / label).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / label).write_text('')
        assert label_path(tmp_path / image) == tmp_path / label


@pytest.mark.parametrize('orientation', range(1, 9))
def test_images_that_mmcv_mirrors_are_counted_too(tmp_path, orientation):
    make_set(tmp_path, {'images/a.jpg': '0 0.25 0.5 0.5 1'})
    exif = Image.Exif()
    exif[0x0112] = orientation
    pixels = np.zeros((32, 64, 3), np.uint8)
    pixels[:8, :8] = 255
    Image.fromarray(pixels).save(tmp_path / 'images' / 'a.jpg', exif=exif)
    loaded = cv2.imread(str(tmp_path / 'images' / 'a.jpg'))
    stays = loaded.shape == (32, 64, 3) and loaded[:4, :4].mean() > 200
    report = convert(tmp_path, tmp_path / 'out')[1]
    key = 'images turned or mirrored by EXIF (which Darknet does not follow)'
    assert report.counts[key] == (not stays) == (orientation > 1)


def test_the_root_of_the_images_as_one_would_write_it(tmp_path, monkeypatch):
    make_set(tmp_path / 'set')
    (tmp_path / 'set/train.txt').write_text('images/a.jpg\n')
    (tmp_path / 'elsewhere').mkdir()
    (tmp_path / 'link').symlink_to(tmp_path / 'set')
    monkeypatch.chdir(tmp_path / 'elsewhere')
    for root in ('../set', tmp_path / 'link', '../link/images/..'):
        data = tmp_path / 'link/obj.data'
        report, *_ = darknet_to_coco(data, tmp_path / 'out', ['train'], image_root=root)
        assert not report.bad
        content = json.loads((tmp_path / 'out/train.json').read_text())
        assert [one['file_name'] for one in content['images']] == ['images/a.jpg']
    with pytest.raises(ValueError, match='does not lie under the image root'):
        darknet_to_coco(data, tmp_path / 'out', ['train'], image_root='.')


def test_images_that_mmcv_turns(tmp_path):
    make_set(tmp_path, {'images/a.jpg': '0 0.25 0.5 0.5 1'})
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new('RGB', (64, 32)).save(tmp_path / 'images' / 'a.jpg', exif=exif)
    coco, report, _, _ = convert(tmp_path, tmp_path / 'out')
    import mmcv

    assert mmcv.imread(tmp_path / 'images' / 'a.jpg').shape[:2] == (64, 32)
    assert (coco['images'][0]['width'], coco['images'][0]['height']) == (32, 64)
    assert coco['annotations'][0]['bbox'] == [0, 0, 16, 64]
    key = 'images turned or mirrored by EXIF (which Darknet does not follow)'
    assert report.counts[key] == 1


def test_training_comes_first_however_it_was_asked_for(tmp_path):
    path = coco_file(tmp_path)
    for split in ('train', 'valid'):
        coco_to_darknet(path, tmp_path / 'images', tmp_path / 'set', split)
    data, out = tmp_path / 'set/obj.data', tmp_path / 'coco'
    written = darknet_to_coco(data, out, splits=['valid', 'train'])[3]
    assert [file.name for file in written] == ['train.json', 'valid.json']


def test_relative_paths(tmp_path, monkeypatch):
    root = tmp_path / 'work' / 'data' / 'mine'
    make_set(root, {'images/a.jpg': '0 0.5 0.5 1 1'})
    for name in ('train.txt', 'obj.data'):
        text = (root / name).read_text()
        (root / name).write_text(text.replace(str(tmp_path / 'work') + '/', ''))
    for folder in (tmp_path / 'work', tmp_path):  # where Darknet was started, and elsewhere
        monkeypatch.chdir(folder)
        coco, _, _, _ = convert(root, tmp_path / 'out')
        assert [one['file_name'] for one in coco['images']] == ['a.jpg']


@pytest.mark.parametrize(
    'old, new, message',
    [
        ('classes= 3', 'classes= 4', 'classes=4, but .* has 3 names'),
        ('names = ', 'nomes = ', 'names= is missing'),
        ('train  = ', 'trian  = ', 'none of train=, valid='),
        ('train  = ', 'train  ', ':2: expected option = value'),
        ('obj.names', 'gone.names', 'no such file of names'),
        ('train.txt', 'gone.txt', 'no such list of train images'),
        ('backup = ', 'train = ', ':4: a second train='),
    ],
)
def test_bad_data_files(tmp_path, old, new, message):
    path = make_set(tmp_path)
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises((ValueError, FileNotFoundError), match=message) as caught:
        darknet_to_coco(path, tmp_path / 'out')
    assert str(path) in str(caught.value)
    assert not (tmp_path / 'out').exists()


@pytest.mark.parametrize('names, line', [('a\n\nb\n', 2), ('a\nb\na\n', 3)])
def test_bad_names(tmp_path, names, line):
    path = make_set(tmp_path, names=names)
    with pytest.raises(ValueError, match=rf'obj.names:{line}: '):
        darknet_to_coco(path, tmp_path / 'out')


@settings(max_examples=25, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, 2), *[st.floats(0, 1)] * 4).filter(
            lambda b: abs(b[3] - b[1]) > 1e-3 and abs(b[4] - b[2]) > 1e-3
        ),
        min_size=1,
        max_size=5,
    )
)
def test_round_trip_from_darknet(tmp_path_factory, boxes):
    root = tmp_path_factory.mktemp('set')
    lines = [(c, (x + u) / 2, (y + v) / 2, abs(u - x), abs(v - y)) for c, x, y, u, v in boxes]
    text = ''.join(' '.join(map(str, line)) + '\n' for line in lines)
    make_set(root / 'set', {'images/a.jpg': text, 'images/b.jpg': ''})
    _, _, names, images = convert(root / 'set', root / 'coco')
    coco_to_darknet(root / 'coco' / 'train.json', images, root / 'back')
    back = (root / 'back' / 'labels' / 'train' / 'a.txt').read_text()
    found = [[float(x) for x in line.split()] for line in back.splitlines()]
    np.testing.assert_allclose(found, lines, atol=1e-6)
    assert (root / 'back' / 'labels' / 'train' / 'b.txt').read_text() == ''
    assert (root / 'back' / 'obj.names').read_text().splitlines() == names


def test_round_trip_from_coco(tmp_path, monkeypatch):
    make_set(tmp_path / 'set')
    first, _, _, images = convert(tmp_path / 'set', tmp_path / 'coco')
    monkeypatch.chdir(tmp_path)
    coco_to_darknet('coco/train.json', images, 'back')
    coco_to_darknet('coco/train.json', images, 'back', 'valid', copy_images=True)
    report, names, root, _ = darknet_to_coco('back/obj.data', 'again')
    assert not report.bad
    assert root == tmp_path / 'back' / 'JPEGImages'
    for split in ('train', 'valid'):
        again = json.loads((tmp_path / 'again' / f'{split}.json').read_text())
        assert again['categories'] == first['categories']
        assert [i['file_name'] for i in again['images']] == [
            f'{split}/{i["file_name"]}' for i in first['images']
        ]
        assert len(again['annotations']) == len(first['annotations'])
        for one, other in zip(again['annotations'], first['annotations']):
            assert one['category_id'] == other['category_id']
            np.testing.assert_allclose(one['bbox'], other['bbox'], atol=1e-3)
    assert (tmp_path / 'back' / 'JPEGImages' / 'train' / 'a.jpg').is_symlink()
    assert not (tmp_path / 'back' / 'JPEGImages' / 'valid' / 'a.jpg').is_symlink()
    # Where Darknet saves its weights; it makes no folder itself.
    assert 'backup = back/backup\n' in (tmp_path / 'back/obj.data').read_text()
    assert (tmp_path / 'back/backup').is_dir()


def test_a_folder_that_darknet_cannot_name(tmp_path):
    with pytest.raises(ValueError, match='my set: Darknet takes the blanks out'):
        coco_to_darknet(coco_file(tmp_path), tmp_path / 'images', tmp_path / 'my set')
    assert not (tmp_path / 'my set').exists()


def test_folders_in_which_darknet_does_not_find_labels(tmp_path, monkeypatch):
    path = coco_file(tmp_path)
    monkeypatch.chdir(tmp_path)
    said = []
    monkeypatch.setattr(
        'mmdet_yolo2fl.darknet.data_set.print_log', lambda message, **_: said.append(message)
    )
    coco_to_darknet(path, tmp_path / 'images', 'sets')
    assert not said
    for out, label in (('images/one', 'labels/one/labels'), ('straw', 'stlabels/labels')):
        coco_to_darknet(path, tmp_path / 'images', out)
        message = said.pop()
        assert f'1 images, the first of them {out}/JPEGImages/train/a.jpg: Darknet' in message
        assert f'It looks in {label}/train/a.txt' in message and not said
    # A name, and a suffix that Darknet does not know.
    path = coco_file(tmp_path, images__0__file_name='strawberry.bmp')
    (tmp_path / 'images/a.jpg').rename(tmp_path / 'images/strawberry.bmp')
    coco_to_darknet(path, tmp_path / 'images', 'sets2')
    assert 'It looks in sets2/labels/train/stlabelsberry.bmp' in said.pop()


def coco_file(folder, **changes):
    (folder / 'images').mkdir(exist_ok=True)
    Image.new('RGB', (100, 50)).save(folder / 'images' / 'a.jpg')
    content = dict(
        images=[dict(id=7, file_name='a.jpg', width=100, height=50)],
        annotations=[
            dict(id=1, image_id=7, category_id=9, bbox=[10, 10, 20, 20], iscrowd=0),
            dict(id=2, image_id=7, category_id=3, bbox=[0, 0, 50, 50], iscrowd=1),
            dict(id=3, image_id=7, category_id=3, bbox=[5, 5, 0, 10]),
            dict(id=4, image_id=7, category_id=3, bbox=[90, 40, 20, 20]),
        ],
        categories=[dict(id=9, name='late'), dict(id=3, name='early')],
    )
    for key, value in changes.items():
        kind, index, entry = key.split('__')
        content[kind][int(index)][entry] = value
    path = folder / 'coco.json'
    path.write_text(json.dumps(content))
    return path


def test_ignored_annotations_are_no_objects(tmp_path):
    path = coco_file(tmp_path, annotations__0__ignore=1)
    report = coco_to_darknet(path, tmp_path / 'images', tmp_path / 'out')
    assert report.counts['annotations marked to be ignored left out'] == 1
    assert len((tmp_path / 'out/labels/train/a.txt').read_text().splitlines()) == 1


def test_images_that_exif_turns_are_refused(tmp_path):
    """MMDetection follows it, and so do the boxes; Darknet does not."""
    path = coco_file(tmp_path)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new('RGB', (50, 100)).save(tmp_path / 'images/a.jpg', exif=exif)
    with pytest.raises(ValueError, match='image 7: .*a.jpg is turned or mirrored by EXIF'):
        coco_to_darknet(path, tmp_path / 'images', tmp_path / 'out')
    # Annotated as the pixels lie, the boxes are what Darknet wants.
    Image.new('RGB', (100, 50)).save(tmp_path / 'images/a.jpg', exif=exif)
    coco_to_darknet(path, tmp_path / 'images', tmp_path / 'as_they_lie')
    assert (tmp_path / 'as_they_lie/labels/train/a.txt').read_text().startswith('1 0.2000')
    (tmp_path / 'images/a.jpg').write_bytes(b'no image')
    with pytest.raises(ValueError, match='image 7: .*a.jpg is no image that can be read'):
        coco_to_darknet(path, tmp_path / 'images', tmp_path / 'out')
    assert not (tmp_path / 'out').exists()


def test_an_image_listed_twice_by_two_spellings(tmp_path):
    make_set(tmp_path / 'set')
    (file,) = (tmp_path / 'set').rglob('train.txt')
    first = file.read_text().splitlines()[0]
    file.write_text(f'{file.read_text()}./{first}\n')
    report, *_ = darknet_to_coco(next((tmp_path / 'set').rglob('*.data')), tmp_path / 'coco')
    assert any('twice' in str(one) for one in report.bad)


def test_what_darknet_has_no_place_for_is_counted(tmp_path):
    report = coco_to_darknet(coco_file(tmp_path), tmp_path / 'images', tmp_path / 'out')
    lines = (tmp_path / 'out' / 'labels' / 'train' / 'a.txt').read_text().splitlines()
    assert lines == [
        '1 0.2000000000 0.4000000000 0.2000000000 0.4000000000',
        '0 0.9500000000 0.9000000000 0.1000000000 0.2000000000',
    ]
    assert report.counts == {
        'images': 1,
        'boxes': 2,
        'crowds left out': 1,
        'boxes without area in the image left out': 1,
        'boxes clipped to the image': 1,
    }


@pytest.mark.parametrize(
    'change, message',
    [
        (dict(annotations__0__image_id=8), 'annotation 1: there is no image of image_id 8'),
        (dict(annotations__0__category_id=8), 'annotation 1: there is no category'),
        (dict(annotations__0__bbox=[1, 2, 3]), r'annotation 1: bbox \[1, 2, 3\]'),
        (dict(annotations__0__bbox=[1, 2, 3, 'x']), 'annotation 1: bbox'),
        (dict(annotations__0__bbox=None), 'annotation 1: bbox must be of type list'),
        (dict(annotations__0__image_id=None), 'annotation 1: image_id must be of type int'),
        (dict(images__0__width=0), 'image 7: a size of 0x50'),
        (dict(images__0__width='w'), 'image 7: width must be of type int'),
        (dict(images__0__file_name='../a.jpg'), 'leads out of the image folder'),
        (dict(images__0__file_name='/etc/passwd'), 'leads out of the image folder'),
        (dict(images__0__file_name='b.jpg'), 'image 7: there is no'),
        (dict(categories__0__name='early'), 'two categories'),
        (dict(categories__0__name=5), 'category 9: name must be of type str'),
    ],
    ids=str,
)
def test_bad_coco_files(tmp_path, change, message):
    path = coco_file(tmp_path, **change)
    with pytest.raises((ValueError, FileNotFoundError), match=message) as caught:
        coco_to_darknet(path, tmp_path / 'images', tmp_path / 'out')
    assert str(path) in str(caught.value)
    assert not (tmp_path / 'out').exists()


def test_files_that_are_no_coco(tmp_path):
    path = tmp_path / 'coco.json'
    for content, message in (('{', 'no JSON'), ('[]', 'is an object'), ('{}', 'images is missing')):
        path.write_text(content)
        with pytest.raises(ValueError, match=message):
            coco_to_darknet(path, tmp_path, tmp_path / 'out')


def test_an_earlier_call_is_replaced(tmp_path):
    path, images, out = coco_file(tmp_path), tmp_path / 'images', tmp_path / 'out'
    for copy_images in (False, False, True, True, False):
        coco_to_darknet(path, images, out, copy_images=copy_images)
    for copy_images in (False, True):
        coco_to_darknet(coco_file(tmp_path), images, out, copy_images=copy_images)
        # Another list: what only the first had, goes.
        shutil.copy(images / 'a.jpg', images / 'c.jpg')
        other = coco_file(tmp_path, images__0__file_name='c.jpg')
        coco_to_darknet(other, images, out, copy_images=copy_images)
        for kind, name in (('JPEGImages', 'c.jpg'), ('labels', 'c.txt')):
            assert [file.name for file in (out / kind / 'train').iterdir()] == [name]
    # Broken off between images and labels.
    shutil.rmtree(out / 'JPEGImages/train')
    (out / 'JPEGImages/train').mkdir()
    coco_to_darknet(coco_file(tmp_path), images, out)
    assert [file.name for file in (out / 'labels/train').iterdir()] == ['a.txt']
    # The copies serve as originals.
    coco_to_darknet(coco_file(tmp_path), images, out, copy_images=True)
    coco_to_darknet(coco_file(tmp_path), out / 'JPEGImages/train', out, copy_images=True)
    # But not those that are not annotated, nor labels made by hand for them.
    originals = out / 'JPEGImages/train'
    (originals / 'b.jpg').write_bytes(b'mine')
    (out / 'labels/train/b.txt').write_text('mine')
    with pytest.raises(ValueError, match='b.jpg: would be lost, and is the image itself'):
        coco_to_darknet(coco_file(tmp_path), originals, out, copy_images=True)
    assert (originals / 'b.jpg').read_bytes() == b'mine'
    assert (out / 'labels/train/b.txt').read_text() == 'mine'


def test_in_the_present_folder_the_forks_find_the_labels_too(tmp_path, monkeypatch):
    """They put labels in the place of ``/JPEGImages/``, with both slashes."""
    monkeypatch.chdir(tmp_path)
    for _ in range(2):
        coco_to_darknet(coco_file(tmp_path), 'images', '.')
    (line,) = (tmp_path / 'train.txt').read_text().splitlines()
    label = line.replace('/JPEGImages/', '/labels/', 1).replace('.jpg', '.txt')
    assert '/JPEGImages/' in line and (tmp_path / label).is_file()


@pytest.mark.parametrize('copy_images', [False, True])
def test_images_and_labels_of_others_are_not_replaced(tmp_path, copy_images):
    path, images, out = coco_file(tmp_path), tmp_path / 'images', tmp_path / 'out'

    def refuses(file, reason, path=path, images=images):
        before = file.read_bytes()
        with pytest.raises(ValueError, match=f'{file}: would be lost, and {reason}'):
            coco_to_darknet(path, images, out, copy_images=copy_images)
        assert file.read_bytes() == before

    # Labels made by hand, also of an image that is listed.
    for name in ('a.txt', 'b.txt', 'deep/a.txt'):
        file = out / 'labels/train' / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text('mine')
        refuses(file, 'belongs to no image')
        file.unlink()
    coco_to_darknet(path, images, out, copy_images=copy_images)
    for name, reason in (
        ('JPEGImages/train/b.jpg', 'is neither'),
        ('labels/train/b.txt', 'belongs'),
    ):
        (out / name).write_text('mine')
        refuses(out / name, reason)
        (out / name).unlink()
    # A copy that has changed since may be the only one.
    image = out / 'JPEGImages/train/a.jpg'
    content = image.read_bytes()
    image.unlink()
    image.write_bytes(content + b'x')
    refuses(image, 'is another image than')
    image.write_bytes(content)
    # The originals lie where the links would come.
    nested = tmp_path / 'nested.json'
    nested.write_text(path.read_text().replace('a.jpg', 'train/a.jpg'))
    refuses(image, 'is neither', nested, out / 'JPEGImages')
    if not copy_images:
        refuses(image, 'is the image itself', path, out / 'JPEGImages/train')


def test_another_splits_classes(tmp_path):
    coco_to_darknet(coco_file(tmp_path), tmp_path / 'images', tmp_path / 'out')
    other = coco_file(tmp_path, categories__0__name='other')
    with pytest.raises(ValueError, match="another split has the classes \\['early', 'late'\\]"):
        coco_to_darknet(other, tmp_path / 'images', tmp_path / 'out', 'valid')
    assert not (tmp_path / 'out' / 'valid.txt').exists()
    # No other split is there: the names are its own, and may be corrected.
    coco_to_darknet(other, tmp_path / 'images', tmp_path / 'out')
    assert (tmp_path / 'out' / 'obj.names').read_text().split() == ['early', 'other']
    # Somebody else's are not: lists that lie elsewhere, under other names, or not there at all.
    data, listed = (tmp_path / 'out' / name for name in ('obj.data', 'train.txt'))
    for file, text in (
        (listed, 'data/obj/a.jpg\n'),
        (data, f'{data.read_text()}valid = {tmp_path}/out/test.txt\n'),
        (listed, None),
    ):
        content = file.read_text()
        file.write_text(text) if text else file.unlink()
        with pytest.raises(ValueError, match="another split has the classes \\['early', 'other'"):
            coco_to_darknet(coco_file(tmp_path), tmp_path / 'images', tmp_path / 'out')
        file.write_text(content)
