"""From images to drawings, tables and COCO files, against MMDetection's own inference."""

import csv
import json
import shutil
import signal
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from filelock import FileLock
from mmdet.apis import inference_detector, init_detector
from PIL import Image
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from tests.inference.test_sources import write_video
from tests.test_checkpoints import Hostile


@pytest.fixture
def config(squares):
    return squares[0]


@pytest.fixture
def checkpoint(squares):
    return squares[1]


def lines(out):
    with open(out / 'predictions.csv', newline='') as file:
        return list(csv.DictReader(file))


def test_equals_mmdetections_inference(config, checkpoint, data_root, tmp_path, tool, capsys):
    out = tmp_path / 'out'
    tool('predict')(
        [str(config), str(checkpoint), str(data_root), '--out', str(out), '--device', 'cpu']
        + ['--score-thr', '0.2', '--batch-size', '3', '--crops']
    )
    model = init_detector(str(config), str(checkpoint), device='cpu', palette='random')
    expected = []
    for number in range(1, 5):
        found = inference_detector(model, str(data_root / f'{number}.png')).pred_instances
        expected += [
            (f'{number}.png', ('red', 'blue')[label], score, box)
            for score, label, box in zip(
                found.scores.tolist(), found.labels.tolist(), found.bboxes.tolist()
            )
            if score >= 0.2
        ]
    table, content = lines(out), json.loads((out / 'predictions.json').read_text())
    assert 0 < len(expected) == len(table) == len(content['annotations'])
    printed = capsys.readouterr().out
    assert f'{len(expected)} boxes in 4 images' in printed and 'earlier runs' not in printed
    images = {image['id']: image for image in content['images']}
    names = {category['id']: category['name'] for category in content['categories']}
    for (file, name, score, box), line, entry in zip(expected, table, content['annotations']):
        assert Path(line['file']).name == file and line['class'] == name
        assert float(line['score']) == pytest.approx(score, abs=1e-4)
        assert [float(line[key]) for key in ('x1', 'y1', 'x2', 'y2')] == pytest.approx(
            box, abs=0.02
        )
        image = images[entry['image_id']]
        assert Path(image['file_name']).name == file and (image['width'], image['height']) == (
            (90, 60)
        )
        assert names[entry['category_id']] == name
        x, y, width, height = entry['bbox']
        assert [x, y, x + width, y + height] == pytest.approx(box, abs=0.02)
    crops = sorted(out.glob('crops/*/*.jpg'))
    assert len(crops) == len(expected)
    assert {crop.parent.name for crop in crops} == {name for _, name, *_ in expected}
    corners = np.clip([box for *_, box in expected], 0, [90, 60, 90, 60])
    sizes = np.ceil(corners[:, 2:]) - np.floor(corners[:, :2])
    shapes = [cv2.imread(str(crop)).shape[1::-1] for crop in crops]
    assert sorted(shapes) == sorted(map(tuple, sizes.astype(int).tolist()))
    for number in range(1, 5):
        drawn = cv2.imread(str(out / f'drawn/{number}.jpg'))
        plain = cv2.imread(str(data_root / f'{number}.png'))
        assert drawn.shape == plain.shape and np.abs(drawn.astype(int) - plain).max() > 100
    assert not list(out.rglob('*.tmp'))


def test_can_be_evaluated(config, checkpoint, data_root, tmp_path, tool):
    """With the ids of the annotations: the AP is that of tools/test.py."""
    command = [str(config), str(checkpoint), f'{data_root}/*.png', '--device', 'cpu', '--no-draw']
    tool('predict')([*command, '--score-thr', '0', '--out', str(tmp_path / 'first')])
    # Some of what it finds as the truth, with ids that nobody would guess.
    content = json.loads((tmp_path / 'first/predictions.json').read_text())
    for image in content['images']:
        image['id'] += 70
        image['file_name'] = Path(image['file_name']).name
    for entry in content['annotations']:
        entry['image_id'] += 70
        entry['category_id'] *= 30
        del entry['score']
    for category in content['categories']:
        category['id'] *= 30
    content['annotations'] = content['annotations'][1::2]
    annotations = data_root / 'valid.json'
    annotations.write_text(json.dumps(content))
    out = tmp_path / 'out'
    tool('predict')(
        [*command, '--score-thr', '0', '--out', str(out), '--annotations', str(annotations)]
    )
    truth = COCO(str(annotations))
    found = json.loads((out / 'predictions.json').read_text())['annotations']
    evaluation = COCOeval(truth, truth.loadRes(found), 'bbox')
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    metrics = tool('test')([str(config), str(checkpoint), '--work-dir', str(tmp_path / 'work')])
    assert metrics['coco/bbox_mAP_50'] == pytest.approx(evaluation.stats[1], abs=1e-3)
    assert 0.1 < evaluation.stats[1] < 1
    assert not (out / 'drawn').exists()


@pytest.mark.parametrize(
    ('color_type', 'size'), [('color', (20, 40)), ('color_ignore_orientation', (40, 20))]
)
def test_photographs_lie_as_the_config_loads_them(
    config, checkpoint, tmp_path, tool, color_type, size
):
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter turn
    Image.new('RGB', (40, 20), 'red').save(tmp_path / 'photo.jpg', exif=exif)
    out = tmp_path / 'out'
    command = [str(config), str(checkpoint), str(tmp_path / 'photo.jpg'), '--out', str(out)]
    loads = f'test_dataloader.dataset.pipeline.0.color_type={color_type}'
    tool('predict')([*command, '--cfg-options', loads])
    (image,) = json.loads((out / 'predictions.json').read_text())['images']
    assert (image['width'], image['height']) == size


def test_videos_are_drawn_as_videos(config, checkpoint, tmp_path, tool):
    film, out = write_video(tmp_path / 'film.avi', 5, (90, 60)), tmp_path / 'out'
    command = [str(config), str(checkpoint), str(film), '--out', str(out), '--device', 'cpu']
    tool('predict')([*command, '--score-thr', '0', '--batch-size', '2', '--every', '2'])
    capture = cv2.VideoCapture(str(out / 'drawn/film.mp4'))
    assert capture.get(cv2.CAP_PROP_FRAME_COUNT) == 3
    assert capture.get(cv2.CAP_PROP_FPS) == 5
    assert (capture.get(3), capture.get(4)) == (90, 60)
    assert sorted({line['frame'] for line in lines(out)}) == ['0', '2', '4']
    content = json.loads((out / 'predictions.json').read_text())
    assert [Path(image['file_name']).name for image in content['images']] == [
        'film.avi#0',
        'film.avi#2',
        'film.avi#4',
    ]
    assert sorted(path.name for path in (out / 'drawn').iterdir()) == ['film.mp4']


def test_a_broken_file_is_counted_and_the_others_go_on(
    config, checkpoint, data_root, tmp_path, tool, capsys
):
    (data_root / '2.png').write_bytes(b'no image')
    out = tmp_path / 'out'
    command = [str(config), str(checkpoint), '--out', str(out), '--device', 'cpu']
    tool('predict')([*command, str(data_root)])
    printed = capsys.readouterr().out
    assert 'in 3 images' in printed and '1 files could not be read' in printed
    assert '2.png' in printed
    before = (out / 'predictions.csv').read_text()
    with pytest.raises(SystemExit, match='Nothing could be predicted'):
        tool('predict')([*command, str(data_root / '2.png')])
    assert (out / 'predictions.csv').read_text() == before


def test_a_folder_that_takes_no_files(config, checkpoint, data_root, tool, refused, monkeypatch):
    main = tool('predict')

    def full(dir):
        raise PermissionError(13, 'Permission denied', str(dir))

    monkeypatch.setattr('mmdet_yolo2fl.whole_files.TemporaryFile', full)
    monkeypatch.setitem(main.__globals__, 'run', None)
    assert 'Permission denied' in refused(main, config, checkpoint, data_root)


def ctrl_c():  # a signal would be ignored where the tests run in the background of a shell
    raise KeyboardInterrupt


@pytest.mark.parametrize('stop', [ctrl_c, lambda: signal.raise_signal(signal.SIGTERM)])
def test_broken_off_keeps_what_there_is(
    config, checkpoint, tmp_path, tool, monkeypatch, capsys, stop
):
    import mmdet_yolo2fl.inference.sources as sources

    def camera(source, step=1, limit=None, flag='color'):
        for number in range(2):
            yield sources.Frame(source, number, np.zeros((60, 90, 3), np.uint8), 25.0)
        stop()

    main, former = tool('predict'), signal.getsignal(signal.SIGTERM)
    monkeypatch.setitem(main.__globals__, 'frames', camera)
    out = tmp_path / 'out'
    main([str(config), str(checkpoint), '0', '--out', str(out), '--device', 'cpu'])
    assert 'Broken off' in capsys.readouterr().out
    assert signal.getsignal(signal.SIGTERM) == former
    assert len(json.loads((out / 'predictions.json').read_text())['images']) == 2
    assert cv2.VideoCapture(str(out / 'drawn/camera_0.mp4')).get(cv2.CAP_PROP_FRAME_COUNT) == 2


def test_two_do_not_write_into_one_folder(config, checkpoint, data_root, tmp_path, tool, refused):
    args = [config, checkpoint, data_root, '--out', tmp_path, '--device', 'cpu', '--no-draw']
    with FileLock(tmp_path / '.predict.lock'):
        assert 'another prediction is being written there' in refused(tool('predict'), *args)
    tool('predict')([str(arg) for arg in args])
    assert (tmp_path / 'predictions.csv').is_file()


def test_classes_with_any_name_stay_in_their_folder(config, checkpoint, data_root, tmp_path, tool):
    text = config.read_text().replace("('red', 'blue')", "('../../../evil', '..')")
    config.write_text(text)
    annotations = (data_root / 'valid.json').read_text()
    annotations = annotations.replace('red', '../../../evil').replace('blue', '..')
    (data_root / 'valid.json').write_text(annotations)
    out = tmp_path / 'deep/out'
    before = {path for path in tmp_path.rglob('*') if 'deep' not in path.parts}
    tool('predict')(
        [str(config), str(checkpoint), str(data_root), '--out', str(out), '--device', 'cpu']
        + ['--crops', '--score-thr', '0', '--no-draw']
    )
    assert {path for path in tmp_path.rglob('*') if 'deep' not in path.parts} == before
    assert {path.parent.parent for path in out.rglob('*.jpg')} == {out / 'crops'}


def test_what_earlier_runs_have_left_is_counted(
    config, checkpoint, data_root, tmp_path, tool, capsys
):
    out = tmp_path / 'out'
    (out / 'crops/red').mkdir(parents=True)
    (out / 'crops/red/old.jpg').write_bytes(b'old')
    tool('predict')([str(config), str(checkpoint), str(data_root), '--out', str(out)])
    assert '\n1 pictures and videos in it are of earlier runs.\n' in capsys.readouterr().out


def test_how_many_frames_there_will_be(tool, tmp_path, monkeypatch):
    names = tool('predict').__globals__
    film, picture = tmp_path / 'film.avi', tmp_path / 'picture.png'
    write_video(film)  # five frames
    cv2.imwrite(str(picture), np.zeros((4, 6, 3), np.uint8))
    sources = names['find_sources']([str(film), str(picture)])
    for every, most, expected in ((1, None, 6), (2, None, 4), (2, 2, 3), (1, 9, 6), (3, 1, 2)):
        args = SimpleNamespace(every=every, max_frames=most, batch_size=8)
        assert names['expected_frames'](args, sources) == expected
        assert sum(map(len, names['batches'](args, sources, 'color', []))) == expected
    args.batch_size = 2
    args.every, args.max_frames = 1, None
    found = list(names['batches'](args, sources, 'color', []))
    assert [[frame.number for frame in batch] for batch in found] == [[0, 1], [2, 3], [4, 0]]
    assert names['expected_frames'](args, names['find_sources'](['0', str(film)])) is None


def test_usage_errors(config, checkpoint, data_root, tmp_path, tool, refused):
    main = tool('predict')
    start = [config, checkpoint, data_root, '--out', tmp_path / 'out']
    assert 'none.py' in refused(main, 'none.py', *start[1:])
    assert 'none.pth does not exist' in refused(main, config, 'none.pth', data_root)
    assert 'no such file, folder' in refused(main, config, checkpoint, 'none.jpg')
    assert '--score-thr must lie in 0..1' in refused(main, *start, '--score-thr', '2')
    assert '--batch-size must be at least 1' in refused(main, *start, '--batch-size', '0')
    assert '--max-frames' in refused(main, *start, '--max-frames', '0')
    assert '--show shows' in refused(main, *start, '--show', '--no-draw')
    assert 'no COCO annotation file' in refused(main, *start, '--annotations', config)
    strange = tmp_path / 'strange.png'
    cv2.imwrite(str(strange), np.zeros((4, 4, 3), np.uint8))
    annotations = data_root / 'valid.json'
    message = refused(main, config, checkpoint, strange, '--annotations', annotations)
    assert "has no image 'strange.png'" in message
    annotations.write_text(annotations.read_text().replace('red', 'green'))
    assert "has no category ['red']" in refused(main, *start, '--annotations', annotations)
    assert not (tmp_path / 'out/predictions.json').exists()


def test_a_hostile_checkpoint_does_not_run(config, data_root, tmp_path, tool, refused):
    mark, evil = tmp_path / 'mark', tmp_path / 'evil.pth'
    torch.save(dict(state_dict=Hostile(mark)), evil)
    message = refused(tool('predict'), config, evil, data_root, '--out', tmp_path / 'out')
    assert 'untrusted pickle' in message
    assert not mark.exists()


def test_half_a_checkpoint_is_refused(config, checkpoint, data_root, tmp_path, tool, refused):
    """MMEngine would warn, and the rest would be random."""
    half = {k: v for k, v in torch.load(checkpoint).items() if k.startswith('backbone')}
    torch.save(half, tmp_path / 'half.pth')
    message = refused(tool('predict'), config, tmp_path / 'half.pth', data_root)
    assert 'it has nothing for neck.' in message


def test_its_own_drawings_are_no_input(config, checkpoint, data_root, tool, capsys):
    out = data_root / 'out'
    for _ in range(2):
        tool('predict')(
            [str(config), str(checkpoint), str(data_root), '--out', str(out), '--device', 'cpu']
        )
        assert 'in 4 images' in capsys.readouterr().out


@pytest.mark.parametrize('out', ['.', 'sub'])
def test_results_may_lie_beside_or_above_the_images(
    config, checkpoint, data_root, tool, capsys, monkeypatch, out
):
    (data_root / 'sub').mkdir()
    shutil.copy(data_root / '1.png', data_root / 'sub/5.png')
    monkeypatch.chdir(data_root)
    for _ in range(2):
        tool('predict')([str(config), str(checkpoint), '.', '--out', out, '--device', 'cpu'])
        assert 'in 5 images' in capsys.readouterr().out


def test_names_of_another_detector_are_refused(
    config, checkpoint, data_root, tmp_path, tool, refused
):
    other = tmp_path / 'other.pth'
    meta = dict(dataset_meta=dict(classes=('a', 'b', 'c')))
    torch.save(dict(state_dict=torch.load(checkpoint), meta=meta), other)
    message = refused(tool('predict'), config, other, data_root, '--out', tmp_path / 'out')
    assert 'names 3 classes' in message and 'has 2' in message
