"""The command lines of the conversion, with a training and an evaluation in between."""

import shlex

import cv2
import numpy as np
import pytest

from mmdet_yolo2fl.darknet.weights import read_weights

from ..darknet import networks

TINY = networks.NETWORKS['yolov2-tiny-voc'] | dict(
    width=1 / 16, size=(64, 64), classes=2, anchors='0.5,0.5, 1,1'
)


def options(root):
    return [
        '--cfg-options',
        *(f'{loader}_dataloader.dataset.data_root={root}' for loader in ('train', 'val', 'test')),
        *(f'{loader}_dataloader.num_workers=0' for loader in ('train', 'val', 'test')),
        *(f'{loader}_evaluator.ann_file={root}/valid.json' for loader in ('val', 'test')),
    ]


def test_from_darknet_through_training_back_to_darknet(tmp_path, tool, data_root, capsys):
    cfg, weights = networks.write(tmp_path, 'cells', **TINY)
    cfg.write_text(cfg.read_text().replace('random=0', 'random=1'))
    cfg.with_suffix('.names').write_text('red\nblue\n')
    out = tmp_path / 'out'
    tool('darknet2mmdet')([str(cfg), str(weights), str(out)])
    assert 'DetInferencer' in capsys.readouterr().out

    config, checkpoint = out / 'cells.py', out / 'cells.pth'
    runs = tmp_path / 'runs'
    tool('train')(
        [
            str(config),
            '--work-dir',
            str(runs),
            *options(data_root),
            f'load_from={checkpoint}',
            'train_dataloader.batch_size=2',
            'optim_wrapper.accumulative_counts=2',
            'train_cfg.max_iters=4',
            'train_cfg.val_interval=4',
            'default_hooks.checkpoint.interval=4',
        ]
    )
    tool('mmdet2darknet')([str(config), str(runs / 'iter_4.pth'), str(tmp_path / 'back')])
    assert "Darknet's master has a letterbox" in capsys.readouterr().out
    before, after = read_weights(weights), read_weights(tmp_path / 'back' / 'cells.weights')
    # two accumulated updates of two mini-batches of two images
    assert after[0].seen == before[0].seen + 8
    assert after[1].shape == before[1].shape and (after[1] != before[1]).any()
    assert (tmp_path / 'back' / 'cells.names').read_text() == 'red\nblue\n'


@pytest.mark.skipif(not hasattr(cv2.dnn, 'readNetFromDarknet'), reason='OpenCV 5')
def test_comparison_with_opencv(tmp_path, tool, data_root, capsys):
    cfg, weights = networks.write(tmp_path, 'cells', **TINY)
    cfg.with_suffix('.names').write_text('red\nblue\n')
    tool('darknet2mmdet')([str(cfg), str(weights), str(tmp_path)])
    out = tmp_path / 'compared'
    files = [str(tmp_path / 'cells.py'), str(tmp_path / 'cells.pth')]
    arguments = ['--out', str(out), '--ap', '--images', '3', '--score-thr', '0.05']
    tool('compare_opencv')([*files, *arguments, *options(data_root)])
    text = (out / 'parity.md').read_text()
    assert text in capsys.readouterr().out
    rows = [line.split(' | ') for line in text.splitlines() if line.startswith('| ')]
    parity = {row[0][2:]: float(row[1].rstrip(' |')) for row in rows[1:5]}
    assert set(parity) == {'map', 'boxes', 'objectness', 'scores'}
    assert max(parity.values()) < 1e-4
    assert any('bbox_mAP_50' in row[0] for row in rows)
    for row in rows:
        if row[0].startswith('| coco'):
            assert abs(float(row[3].rstrip(' |'))) < 0.002
    assert cv2.imread(str(out / 'boxes.jpg')).shape == (3 * 60, 2 * 90, 3)
    # More than a JPEG holds: the table is there, and as many rows as fit.
    write = tool('compare_opencv').__globals__['write_results']
    same = [dict(map=0.0, boxes=0.0, objectness=0.0, scores=0.0, kept=1)]
    write(same, [np.zeros((30000, 4, 3), np.uint8)] * 3, [], out)
    assert cv2.imread(str(out / 'boxes.jpg')).shape == (60000, 4, 3)
    assert '1 images; 1 scores' in (out / 'parity.md').read_text()
    write(same, [np.zeros((66000, 4, 3), np.uint8)], [], out)
    assert 'too large to be drawn' in capsys.readouterr().out
    # Nothing above the threshold, and a config that averages its weights.
    averaged = tmp_path / 'averaged.py'
    averaged.write_text("_base_ = './cells.py'\ncustom_hooks = [dict(type='EMAHook')]\n")
    arguments = ['--out', str(out), '--images', '1', '--score-thr', '0.999']
    tool('compare_opencv')([str(averaged), files[1], *arguments, *options(data_root)])
    assert '1 images; 0 scores that OpenCV kept.' in (out / 'parity.md').read_text()


def test_usage_errors(tmp_path, tool, refused):
    cfg, weights = networks.write(tmp_path, 'cells', **TINY)
    cfg.with_suffix('.names').write_text('red\nblue\n')
    inwards, outwards = tool('darknet2mmdet'), tool('mmdet2darknet')
    assert 'none.cfg: there is no such cfg' in refused(inwards, 'none.cfg', weights, tmp_path)
    assert 'none.weights' in refused(inwards, cfg, 'none.weights', tmp_path)
    assert 'none.names' in refused(inwards, cfg, weights, tmp_path, '--names', 'none.names')
    (tmp_path / 'file').write_text('')
    assert 'file' in refused(inwards, cfg, weights, tmp_path / 'file' / 'out')
    inwards([str(cfg), str(weights), str(tmp_path)])
    config, checkpoint = tmp_path / 'cells.py', tmp_path / 'cells.pth'
    assert 'none.py' in refused(outwards, 'none.py', checkpoint, tmp_path)
    assert 'none.pth' in refused(outwards, config, 'none.pth', tmp_path)
    message = refused(outwards, config, checkpoint, tmp_path, '--for-opencv', '2')
    assert 'a score threshold lies in 0..1' in message
    message = refused(outwards, config, checkpoint, tmp_path, '--size', '100')
    assert 'multiple of 32, got 100x100' in message
    checkpoint.write_bytes(b'not a checkpoint')
    assert 'cells.pth' in refused(outwards, config, checkpoint, tmp_path)


def test_data_sets_there_and_back(tmp_path, tool, refused, data_root, capsys, monkeypatch):
    tmp_path = tmp_path / "bob's"  # which the lines to paste must bear
    tmp_path.mkdir()
    monkeypatch.chdir(tmp_path)
    outwards, inwards = tool('coco2darknet'), tool('darknet2coco')
    for split in ('train', 'valid'):
        outwards([f'{data_root}/{split}.json', str(data_root), 'set', '--split', split])
    capsys.readouterr()
    inwards(['set/obj.data', 'coco'])
    said = capsys.readouterr().out
    # The lines to paste make a data set that MMDetection builds.
    lines, command = said.split('For a config:\n')[1].split('\n\nOr write a whole one:\n')
    images = tmp_path / 'set/JPEGImages'
    files = shlex.join(f'{tmp_path}/coco/{split}.json' for split in ('train', 'valid'))
    assert f'configs/mine.py --coco {files} --images {shlex.quote(str(images))}\n' in command
    from mmdet.registry import DATASETS

    for text in lines.replace('\ndict(', '\0dict(').split('\0'):
        dataset = DATASETS.build(eval(text, dict(dict=dict)) | dict(pipeline=[]))
        assert dataset.metainfo['classes'] == ('red', 'blue')
        assert [len(dataset.get_data_info(i)['instances']) for i in range(4)] == [1] * 4

    label = tmp_path / 'set' / 'labels' / 'valid' / '2.txt'
    label.write_text('0 0.5 0.5\n')
    (tmp_path / 'coco' / 'train.json').unlink()
    with pytest.raises(SystemExit, match='1 bad lines, nothing written'):
        inwards(['set/obj.data', 'coco'])
    assert f'{label}:1: 3 fields' in capsys.readouterr().err
    assert not (tmp_path / 'coco' / 'train.json').exists()
    inwards(['set/obj.data', 'coco', '--skip-bad'])
    assert '1 bad: fields' in capsys.readouterr().out
    # A file of an earlier call is no result of this one.
    data = tmp_path / 'set/obj.data'
    data.write_text('\n'.join(x for x in data.read_text().splitlines() if 'valid' not in x))
    inwards(['set/obj.data', 'coco'])
    said = capsys.readouterr().out
    assert 'train.json' in said and 'valid.json' not in said
    assert (tmp_path / 'coco/valid.json').is_file()
    assert 'none.data' in refused(inwards, 'none.data', 'coco')
    assert 'none.json' in refused(outwards, 'none.json', data_root, 'set')
