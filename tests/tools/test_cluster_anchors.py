import json
import re

import pytest
from PIL import Image

from tests.tools.coco_file import write_coco

CONFIG = """
model = dict(bbox_head=dict(anchor_generator=dict(anchors=[(1, 1), (2, 2)], stride=32)))
train_dataloader = dict(dataset=dict(
    type='CocoDataset', ann_file={ann_file!r}, data_prefix=dict(img=''),
    metainfo=dict(classes=('cell',)),
    pipeline=[dict(type='LoadImageFromFile'), dict(type='Resize', scale=(320, 160))]))
"""
# At 320x160 these are 1x1 cells, twice, and 5x2.5.
BOXES = [(0, 0, 10, 10), (50, 20, 10, 10), (0, 0, 50, 25), (0, 0, 9, 9, 1)]


@pytest.fixture
def main(tool):
    return tool('cluster_anchors')


def write_config(tmp_path, boxes=BOXES, text=CONFIG):
    path = tmp_path / 'cells.py'
    path.write_text(text.format(ann_file=str(write_coco(tmp_path, boxes))), encoding='utf-8')
    return path


def test_end_to_end(tmp_path, main, capsys):
    out = tmp_path / 'out'
    main([str(write_config(tmp_path)), '--out', str(out)])
    text = capsys.readouterr().out
    assert '3 boxes in 1 images at 320x160; left out: 1 ignored' in text
    assert 'anchors=[(1, 1), (5, 2.5)]' in text
    assert 'anchors = 1,1, 5,2.5' in text
    assert re.search(r'1\.000  these anchors', text)
    # 1, 1 and 2x2 in 5x2.5
    present = (1 + 1 + 4 / 12.5) / 3
    assert f"{present:.3f}  the config's present anchors" in text

    figures = json.loads((out / 'anchors.json').read_text(encoding='utf-8'))
    assert figures['anchors'] == [[1, 1], [5, 2.5]]
    assert figures['present_average_iou'] == pytest.approx(present)
    assert len(figures['average_iou_by_number']) == 2
    with Image.open(out / 'anchors.png') as picture:
        assert min(picture.size) > 300
        colors = picture.convert('RGB').resize((100, 50)).getcolors(5000)
        assert len(colors) > 20
    assert sorted(path.name for path in out.iterdir()) == ['anchors.json', 'anchors.png']


def test_options(tmp_path, main, monkeypatch):
    monkeypatch.chdir(tmp_path)
    options = ['--num-anchors', '1', '--input-size', '640', '--cfg-options', 'model.bbox_head=None']
    main([str(write_config(tmp_path)), *options])
    figures = json.loads((tmp_path / 'work_dirs/cells/anchors/anchors.json').read_text())
    assert figures['input_sizes'] == [[640, 640]]
    assert figures['anchors'] == [[2, 4]]
    assert figures['average_iou'] == pytest.approx((1 + 1 + 8 / 100) / 3)
    assert figures['present_anchors'] is None


@pytest.mark.parametrize(
    'stride, anchors', [('16', [[2, 2], [10, 5]]), ('"(16,8)"', [[2, 4], [10, 10]])]
)
def test_cells_of_another_size(tmp_path, main, stride, anchors):
    option = f'model.bbox_head.anchor_generator.stride={stride}'
    out = tmp_path / 'out'
    main([str(write_config(tmp_path)), '--out', str(out), '--cfg-options', option])
    figures = json.loads((out / 'anchors.json').read_text())
    assert figures['anchors'] == anchors and figures['average_iou'] == pytest.approx(1)
    # VOC's anchors are those of cells of 32 pixels.
    main([str(write_config(tmp_path)), '--out', str(out)])
    plain = json.loads((out / 'anchors.json').read_text())
    assert figures['voc_average_iou'] == pytest.approx(plain['voc_average_iou'])


def test_bad_input(tmp_path, main, refused):
    config = write_config(tmp_path)
    assert 'nowhere.py' in refused(main, 'nowhere.py')
    assert '--input-size' in refused(main, config, '--input-size', '0')
    assert 'need as many distinct boxes, got 2' in refused(main, config, '--num-anchors', '3')
    assert '1 or more' in refused(main, config, '--restarts', '0')
    (tmp_path / 'coco.json').unlink()
    assert 'coco.json' in refused(main, config)
    assert 'no boxes' in refused(main, write_config(tmp_path, [(0, 0, 9, 9, 1)]))
    assert 'train_dataloader' in refused(main, write_config(tmp_path, text='model = dict()'))
