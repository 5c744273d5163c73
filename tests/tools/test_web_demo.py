"""The page: what it says of an image, its arguments, and in a browser."""

import socket

import cv2
import numpy as np
import pytest
from mmdet.apis import inference_detector, init_detector
from mmengine.config import Config
from PIL import Image

from mmdet_yolo2fl.inference import load_inferencer

gradio = pytest.importorskip('gradio', reason="needs Gradio: pip install 'mmdet_yolo2fl[web]'")
from gradio.data_classes import ImageData  # noqa: E402

from mmdet_yolo2fl.inference.sources import read_image  # noqa: E402
from mmdet_yolo2fl.inference.web_page import (  # noqa: E402
    Detector,
    dropped_image,
    known_images,
    launch,
    make_page,
    read_or_say,
    read_rgb,
)


@pytest.fixture(autouse=True)
def _settings_end_here(monkeypatch):
    monkeypatch.setenv('TORCH_FORCE_WEIGHTS_ONLY_LOAD', '0')


@pytest.fixture
def detector(squares):
    return Detector(load_inferencer(Config.fromfile(squares[0]), squares[1], 'cpu'))


def test_rows_are_what_mmdetection_finds(squares, detector, data_root):
    path = data_root / '1.png'
    look = detector.look(cv2.imread(str(path))[..., ::-1])
    model = init_detector(*map(str, squares), device='cpu', palette='random')
    found = inference_detector(model, str(path)).pred_instances
    threshold = float(found.scores.median())
    drawn, maps, rows = detector.show(look, threshold)
    kept = found[found.scores >= threshold]
    assert len(rows) == len(kept) > 0
    for row, label, score, box in zip(
        rows, kept.labels.tolist(), kept.scores.tolist(), kept.bboxes.tolist()
    ):
        assert row[0] == ('red', 'blue')[label]
        assert row[1:] == pytest.approx([score, *box], abs=0.06)
    assert drawn.shape == look.image.shape and (drawn != look.image).any()
    assert [axes.get_title() for axes in maps.axes[:2]] == ['objectness', 'pt of the own boxes']
    none, _, rows = detector.show(look, 1.0)
    assert rows == [] and (none == look.image).all()


def test_truths_of_the_test_set(squares, detector, data_root):
    known = known_images(Config.fromfile(squares[0]), 3)
    assert [*known] == ['1: 1.png', '2: 2.png', '3: 3.png']
    path, truth = known['2: 2.png']
    assert truth.bboxes.tolist() == [[22, 10, 52, 40]] and truth.labels.tolist() == [0]
    look = detector.look(cv2.imread(path)[..., ::-1], truth)
    maps = detector.show(look, 0.3)[1]
    assert maps.axes[1].get_title() == 'pt of the truth'
    # 96x64 are 3x2 cells; the centre (37, 25) of 90x60 lies in cell (0, 1).
    objectness, pt = (axes.images[1].get_array() for axes in maps.axes[:2])
    assert objectness.shape == pt.shape == (2, 3)
    assert pt[0, 1] <= objectness[0, 1] + 1e-6


def test_no_image_of_the_test_set_is_needed(squares):
    assert known_images(Config.fromfile(squares[0]), 0) == {}


@pytest.mark.parametrize('flag', ['color', 'color_ignore_orientation'])
def test_colours_of_known_images(tmp_path, flag):
    Image.new('RGB', (4, 3), 'red').save(tmp_path / 'red.png')
    assert read_rgb(str(tmp_path / 'red.png'), flag)[0, 0].tolist() == [255, 0, 0]


@pytest.mark.parametrize('name', ['deep.png', 'colours.gif', 'turned.jpg'])
def test_a_dropped_image_is_read_like_any_other(tmp_path, name):
    path = tmp_path / name
    pixels = np.random.default_rng(0).integers(0, 256, (30, 40, 3), np.uint8)
    if name == 'deep.png':
        cv2.imwrite(str(path), pixels[..., 0].astype(np.uint16) * 256)
    elif name == 'colours.gif':
        Image.fromarray(pixels).convert('P').save(path)
    else:
        note = Image.Exif()
        note[0x0112] = 6
        Image.fromarray(pixels).save(path, exif=note)
    payload = ImageData(path=str(path), orig_name=name)
    for flag in ('color', 'color_ignore_orientation'):
        found = read_or_say(dropped_image().preprocess(payload), flag)
        assert np.array_equal(found, read_image(str(path), flag)[..., ::-1])


def test_a_dropped_file_that_is_no_image(tmp_path):
    (tmp_path / 'a.png').write_bytes(b'none')
    with pytest.raises(gradio.Error, match='a.png: is no image'):
        read_or_say(str(tmp_path / 'a.png'), 'color')


@pytest.mark.parametrize(
    'arguments, message',
    [
        (['--images', '-1'], '--images must not be negative, got -1'),
        (['--port', '0'], '--port must lie in 1..65535, got 0'),
    ],
)
def test_usage_errors(squares, tool, refused, arguments, message):
    assert message in refused(tool('web_demo'), *squares, *arguments)


def test_a_bad_checkpoint(squares, tool, refused, tmp_path):
    bad = tmp_path / 'bad.pth'
    bad.write_bytes(b'no checkpoint')
    assert 'bad.pth' in refused(tool('web_demo'), squares[0], bad)


def test_in_a_browser(squares, data_root, tab):
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        port = free.getsockname()[1]
    cfg = Config.fromfile(squares[0])
    page = make_page(load_inferencer(cfg, squares[1], 'cpu'), known_images(cfg, 4))
    launch(page, '127.0.0.1', port, wait=False)
    requests = []
    tab.set_viewport_size(dict(width=1200, height=1600))
    tab.on('request', lambda request: requests.append(request.url))
    try:
        tab.goto(f'http://127.0.0.1:{port}')
        threshold = tab.get_by_label('number input for Threshold of the score')
        threshold.fill('0')
        tab.keyboard.press('Enter')
        tab.set_input_files('#image input[type=file]', str(data_root / '1.png'))
        tab.wait_for_selector('#drawn img')
        tab.wait_for_selector('#maps img')
        rows = "/red|blue/.test(document.querySelector('#table').innerText)"
        tab.wait_for_function(rows)
        first = tab.locator('#drawn img').get_attribute('src')
        threshold.fill('1')
        tab.keyboard.press('Enter')
        tab.wait_for_function(
            f"document.querySelector('#drawn img').getAttribute('src') != '{first}'"
        )
        tab.wait_for_function(f'!{rows}')
        tab.get_by_label('Of the test set').click()
        tab.get_by_role('option').nth(1).click()
        tab.wait_for_function(
            "[...document.querySelectorAll('#image img')].some(i => i.naturalWidth == 90)"
        )
    finally:
        page.close()
    assert all(url.startswith((f'http://127.0.0.1:{port}', 'data:', 'blob:')) for url in requests)
