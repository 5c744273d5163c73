"""Configs for data sets of one's own: they load, train, and know the classes and boxes."""

import json
import re
import shutil

import numpy as np
import pytest
from mmdet.registry import DATASETS, MODELS
from mmdet.visualization import get_palette
from mmengine.config import Config
from mmengine.registry import init_default_scope

from mmdet_yolo2fl.own_data import NETWORKS


@pytest.fixture
def voc(tmp_path, data_root):
    """The squares of ``data_root`` in VOC's layout."""
    root = tmp_path / 'voc'
    for name in ('JPEGImages', 'Annotations', 'ImageSets/Main'):
        (root / name).mkdir(parents=True)
    for number in range(1, 5):
        shutil.copy(data_root / f'{number}.png', root / f'JPEGImages/{number}.jpg')
        name = 'red' if number % 2 else 'blue'
        (root / f'Annotations/{number}.xml').write_text(
            '<annotation><size><width>90</width><height>60</height></size><object>'
            f'<name>{name}</name><difficult>0</difficult><bndbox><xmin>{20 + number}</xmin>'
            f'<ymin>10</ymin><xmax>{50 + number}</xmax><ymax>{40 + number}</ymax></bndbox>'
            '</object></annotation>'
        )
    (root / 'ImageSets/Main/train.txt').write_text('1\n2\n3\n')
    (root / 'ImageSets/Main/val.txt').write_text('4\n')
    return root


@pytest.mark.parametrize(
    'network, preset',
    [*((network, 'modern') for network in NETWORKS), ('tiny', 'focal')],
)
def test_voc(voc, tmp_path, tool, capsys, network, preset):
    out = tmp_path / 'mine.py'
    arguments = [str(out), '--voc', str(voc), '--network', network, '--num-anchors', '2']
    arguments += ['--preset', preset]
    tool('new_config')([*arguments, '--size', '96', '64'])
    printed = capsys.readouterr().out
    assert '       2 red' in printed and '       1 blue' in printed
    assert 'smaller than a cell' not in printed
    cfg = Config.fromfile(out)
    assert cfg.metainfo.classes == ('blue', 'red') and cfg.model.bbox_head.num_classes == 2
    init_default_scope('mmdet')
    dataset = DATASETS.build(cfg.train_dataloader.dataset)
    sample = dataset[0]
    assert len(dataset) == 3 and sample['inputs'].shape == (3, 64, 96)
    detector = MODELS.build(cfg.model)
    data = dict(inputs=[sample['inputs']], data_samples=[sample['data_samples']])
    losses = detector(**detector.data_preprocessor(data), mode='loss')
    assert np.isfinite(losses['loss_obj'].item()) and losses['num_pos'] == 1
    assert ('loss_bbox' in losses) == (preset == 'modern')
    assert detector.test_cfg.nms.type == dict(modern='soft_nms', focal='nms')[preset]
    # The boxes are 30 pixels wide and 31 to 33 high, of 90 x 60: 1 cell by 1.03 to 1.1.
    stride = 16 if network.endswith('_stride16') else 32
    assert detector.bbox_head.stride == stride
    (raw,) = detector(**detector.data_preprocessor(data), mode='tensor')
    assert raw.shape[2:] == (64 // stride, 96 // stride)
    anchors = np.array(cfg.model.bbox_head.anchor_generator.anchors) * stride / 32
    assert anchors.shape == (2, 2) and anchors == pytest.approx(np.array([[1, 1.07]] * 2), abs=0.05)


def test_small_objects_ask_for_small_cells(voc, tmp_path, tool, capsys):
    arguments = ['--voc', str(voc), '--num-anchors', '1', '--size', '64', '64']
    for network in ('narrow', 'narrow_stride16', 'tiny'):
        tool('new_config')([str(tmp_path / f'{network}.py'), *arguments, '--network', network])
        printed = capsys.readouterr().out
        # Boxes of 21 x 34 pixels in cells of 32.
        advice = '100% of the boxes are smaller than a cell: try --network narrow_stride16'
        assert (advice in printed) == (network == 'narrow')


def test_boxes_that_the_network_does_not_see(voc, tmp_path, tool, capsys):
    path = voc / 'Annotations/1.xml'
    text = path.read_text().replace('<xmax>51</xmax>', '<xmax>22</xmax>')  # 1 of 90 pixels
    path.write_text(text)
    out = tmp_path / 'mine.py'
    arguments = [str(out), '--voc', str(voc), '--num-anchors', '1', '--network', 'tiny']
    tool('new_config')([*arguments, '--size', '64', '64'])
    printed = capsys.readouterr().out
    assert 'out, training: boxes that are a pixel or less at 64 x 64: 1\n  (A larger' in printed
    assert 'Clustered from 2 boxes' in out.read_text()


def test_why_no_box_is_left(tmp_path, data_root, tool, refused):
    content = json.loads((data_root / 'train.json').read_text())
    for one in content['annotations']:
        one['area'] = 0
    file = tmp_path / 'a.json'
    file.write_text(json.dumps(content))
    arguments = [tmp_path / 'a.py', '--coco', file, file, '--images', data_root]
    text = refused(tool('new_config'), *arguments)
    assert 'no boxes to cluster' in text
    assert 'Left out: training: boxes whose "area" is not positive' in text


def test_a_config_through_a_link(voc, tmp_path, tool):
    (tmp_path / 'far' / 'away').mkdir(parents=True)
    (tmp_path / 'link').symlink_to(tmp_path / 'far' / 'away', target_is_directory=True)
    out = tmp_path / 'link' / 'mine.py'
    tool('new_config')([str(out), '--voc', str(voc), '--network', 'tiny', '--num-anchors', '1'])
    assert Config.fromfile(out).model.type


def test_epochs_bring_their_schedule_along(voc, tmp_path, tool, capsys):
    out = tmp_path / 'my config.py'
    tool('new_config')([str(out), '--voc', str(voc), '--network', 'tiny', '--num-anchors', '1'])
    assert f"  python tools/train.py '{out}'" in capsys.readouterr().out
    cfg = Config.fromfile(out)
    base = Config.fromfile('configs/_base_/schedules/schedule_from_scratch.py')
    assert cfg.param_scheduler == base.param_scheduler and cfg.train_cfg == base.train_cfg
    out.write_text(out.read_text().replace('max_epochs = 80', 'max_epochs = 20'))
    cfg = Config.fromfile(out)
    assert cfg.train_cfg.max_epochs == cfg.param_scheduler[1].T_max == 20


def test_names_that_a_comment_would_not_hold(voc, tmp_path, tool):
    """A line break in a name ended the comment, and what came after it ran."""
    path = voc / 'Annotations/1.xml'
    evil = f'<name>red\nopen({str(tmp_path / "ran")!r}, "w")\n#</name>'
    path.write_text(path.read_text().replace('<name>red</name>', evil))
    out = tmp_path / "it's mine" / 'mine.py'
    arguments = ['--voc', str(voc), '--network', 'tiny', '--size', '64', '64']
    tool('new_config')([str(out), *arguments, '--num-anchors', '1'])
    cfg = Config.fromfile(out)
    assert not (tmp_path / 'ran').exists()
    assert any('\n' in name for name in cfg.metainfo.classes)


def test_on_another_drive(voc, tmp_path, tool, monkeypatch):
    def no_way(*_):
        raise ValueError('path is on mount C:, start on mount D:')

    main, out = tool('new_config'), tmp_path / 'mine.py'
    monkeypatch.setattr(main.__globals__['os'].path, 'relpath', no_way)
    arguments = ['--network', 'tiny', '--size', '64', '64', '--num-anchors', '1']
    main([str(out), '--voc', str(voc), *arguments])
    monkeypatch.undo()
    assert Config.fromfile(out).model.bbox_head.type == 'YOLOV2Head'


def test_a_validation_that_is_the_training(data_root, tmp_path, tool, capsys):
    file = str(data_root / 'train.json')
    arguments = ['--network', 'tiny', '--size', '64', '64', '--num-anchors', '1']
    tool('new_config')([str(tmp_path / 'mine.py'), '--coco', file, file, *arguments])
    printed = capsys.readouterr().out
    assert '4 of the 4 validation images are trained on, too' in printed


def test_a_validation_that_lies_in_the_training(voc, tmp_path, tool, capsys):
    (voc / 'ImageSets/Main/trainval.txt').write_text('1\n2\n3\n4\n')
    arguments = ['--network', 'tiny', '--size', '64', '64', '--num-anchors', '1']
    for train, shared in (('trainval', True), ('train', False)):
        out = tmp_path / f'{train}.py'
        tool('new_config')([str(out), '--voc', str(voc), train, 'val', *arguments])
        printed = capsys.readouterr().out
        assert ('1 of the 1 validation images are trained on, too' in printed) == shared


def test_classes_of_which_no_box_is_learned(data_root, voc, tmp_path, tool, capsys):
    """Crowds, ignored and difficult ones, and those without an area in their image."""
    files = [data_root / f'{name}.json' for name in ('train', 'valid')]
    content = json.loads(files[0].read_text())
    ids = {one['name']: one['id'] for one in content['categories']}
    arguments = ['--force', '--network', 'tiny', '--size', '64', '64', '--num-anchors', '1']
    blue = [one for one in content['annotations'] if one['category_id'] == ids['blue']]
    for change in (dict(ignore=1), dict(ignore=0, iscrowd=1), dict(iscrowd=0, area=0)):
        for one in blue:
            one.update(change)
        files[0].write_text(json.dumps(content))
        tool('new_config')([str(tmp_path / 'coco.py'), '--coco', *map(str, files), *arguments])
        assert 'classes without a box for training (blue): 1' in capsys.readouterr().out
    texts = {file: file.read_text() for file in (voc / 'Annotations').glob('*.xml')}
    for old, new in (('<difficult>0<', '<difficult>1<'), ('<ymin>10<', '<ymin>61<')):
        for file, text in texts.items():
            file.write_text(text.replace(old, new) if '<name>blue</name>' in text else text)
        tool('new_config')([str(tmp_path / 'voc.py'), '--voc', str(voc), *arguments])
        assert 'classes without a box for training (blue): 1' in capsys.readouterr().out
    assert Config.fromfile(tmp_path / 'voc.py').metainfo.classes == ('red',)


def test_a_validation_without_objects_and_one_across_are_told(voc, tmp_path, tool, capsys):
    file = voc / 'Annotations/4.xml'
    text = file.read_text()
    exchanged = text.replace('<width>90', '<width>60').replace('<height>60', '<height>90')
    arguments = ['--network', 'tiny', '--size', '64', '64', '--num-anchors', '1', '--force']
    empty = re.sub('<object>.*</object>', '', text)
    for content, expected in (
        (empty, 'Nothing to measure, validation: images, and no object'),
        (exchanged, 'Look whether the boxes fit, validation: images that EXIF'),
        (text, ''),
    ):
        file.write_text(content)
        tool('new_config')([str(tmp_path / 'mine.py'), '--voc', str(voc), *arguments])
        said = capsys.readouterr().out
        assert expected in said
        assert ('validation: images' in said) == bool(expected)


def test_more_classes_than_the_palette_of_coco(data_root, tmp_path, tool):
    """MMDetection draws a class in the colour of its place in it."""
    files = [data_root / f'{name}.json' for name in ('train', 'valid')]
    for file in files:
        content = json.loads(file.read_text())
        content['categories'] = [dict(id=n, name=f'class {n}') for n in range(1, 82)]
        first = content['annotations'][0]
        content['annotations'] = [dict(first, id=n, category_id=n, iscrowd=0) for n in range(1, 82)]
        file.write_text(json.dumps(content))
    out = tmp_path / 'many.py'
    arguments = ['--network', 'tiny', '--size', '64', '64', '--num-anchors', '1']
    tool('new_config')([str(out), '--coco', *map(str, files), *arguments])
    meta = DATASETS.build(Config.fromfile(out).val_dataloader.dataset).metainfo
    assert len(get_palette(meta['palette'], 81)) == 81


def test_coco_trains(data_root, tmp_path, tool, capsys, monkeypatch):
    """A parent category without boxes, as some exporters write it, is left out."""
    for name in ('train', 'valid'):
        path = data_root / f'{name}.json'
        content = json.loads(path.read_text())
        content['categories'].insert(0, dict(id=0, name='things'))
        path.write_text(json.dumps(content))
    out = tmp_path / 'mine.py'
    files = [str(data_root / f'{name}.json') for name in ('train', 'valid')]
    # An image without objects is left out, or trained on.
    content = json.loads((data_root / 'train.json').read_text())
    images = content['images']
    shutil.copy(data_root / images[0]['file_name'], data_root / 'empty.png')
    images.append(dict(images[0], id=99, file_name='empty.png'))
    (data_root / 'train.json').write_text(json.dumps(content))
    arguments = [str(out), '--coco', *files, '--network', 'tiny', '--size', '64', '64']
    arguments += ['--num-anchors', '1']
    tool('new_config')(arguments)
    printed = capsys.readouterr().out
    assert 'Will be left out, classes without a box for training (things): 1\n' in printed
    assert '0 things' not in printed and '2 classes' in printed
    assert 'left out, training: images without objects (filter_empty_gt): 1' in printed
    assert 'With --keep-empty they are trained on, too' in printed
    assert len(DATASETS.build(Config.fromfile(out).train_dataloader.dataset)) == len(images) - 1
    tool('new_config')([*arguments, '--force', '--keep-empty'])
    assert 'left out, training: images' not in capsys.readouterr().out
    assert len(DATASETS.build(Config.fromfile(out).train_dataloader.dataset)) == len(images)
    cfg = Config.fromfile(out)
    assert cfg.metainfo.classes == ('red', 'blue')
    monkeypatch.chdir(tmp_path)
    tool('train')(
        [str(out), '--cfg-options', 'train_cfg.max_epochs=1', 'train_cfg.val_interval=1']
        + ['train_dataloader.num_workers=0', 'train_dataloader.persistent_workers=False']
        + ['val_dataloader.num_workers=0', 'val_dataloader.persistent_workers=False']
        + ['model.backbone.widen_factor=0.125', 'model.bbox_head.in_channels=128']
        + ['model.bbox_head.feat_channels=32']
    )
    # (Which of them is the best only a detector that finds something can say.)
    assert (tmp_path / 'work_dirs/mine/epoch_1.pth').is_file()
    assert cfg.default_hooks.checkpoint.save_best == 'coco/bbox_mAP_50'


@pytest.mark.parametrize(
    'arguments, message',
    [
        (['mine.txt', '--voc', 'x'], 'a config is a Python file, name it mine.py'),
        (['mine.py', '--voc', 'x', 'train'], '--voc takes the folder, or the folder and'),
        (['mine.py', '--voc', 'x', '--images', 'y'], '--images takes one or two folders'),
        (['mine.py', '--voc', 'x', '--size', '100', '64'], 'must be multiples of 32, got 100 64'),
        (['mine.py', '--voc', 'nowhere'], 'nowhere/ImageSets/Main/train.txt'),
        (['mine.py', '--coco', 'no.json', 'no.json'], 'no.json'),
        (['mine.py'], 'one of the arguments --coco --voc is required'),
    ],
)
def test_usage_errors(tmp_path, monkeypatch, tool, refused, arguments, message):
    monkeypatch.chdir(tmp_path)
    assert message in refused(tool('new_config'), *arguments)
    assert not [*tmp_path.iterdir()]


def test_is_not_overwritten(voc, tmp_path, tool, refused):
    out = tmp_path / 'mine.py'
    out.write_text('mine')
    arguments = [out, '--voc', voc, '--num-anchors', 1]
    assert 'is there already' in refused(tool('new_config'), *arguments)
    assert out.read_text() == 'mine'
    tool('new_config')([*map(str, arguments), '--force'])
    assert '_base_' in out.read_text()


def test_damaged_files(voc, data_root, tmp_path, tool, refused):
    out = tmp_path / 'mine.py'
    (voc / 'Annotations/2.xml').write_text('<annotation>')
    assert '2.xml: no XML' in refused(tool('new_config'), out, '--voc', voc)
    (voc / 'Annotations/2.xml').write_text('<!DOCTYPE a [<!ENTITY b "c">]><annotation/>')
    assert '2.xml: defines entities' in refused(tool('new_config'), out, '--voc', voc)
    (voc / 'Annotations/2.xml').write_text('<annotation><object><name/></object></annotation>')
    assert '2.xml: <object> without <name>' in refused(tool('new_config'), out, '--voc', voc)
    (data_root / 'train.json').write_text('[]')
    files = data_root / 'train.json', data_root / 'valid.json'
    assert 'train.json: a COCO file is an object' in refused(
        tool('new_config'), out, '--coco', *files
    )
    assert not out.exists()
