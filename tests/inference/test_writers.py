"""What only some videos and pictures need of the writers."""

import json

import cv2
import numpy as np
import pytest

from mmdet_yolo2fl.inference import Writers
from mmdet_yolo2fl.inference.writers import read_ids


@pytest.mark.parametrize('rate', [0.125, 14.985, 29.97, 59.94, 66.123, 119.8834, 239.8342, 999.9])
def test_rates_of_slow_motion(tmp_path, rate):
    """The time base of MPEG-4 ends at 65535."""
    writers = object.__new__(Writers)
    writers.video, writers.written = None, set()
    path = tmp_path / 'drawn/film.mp4'
    for value in (0, 200):
        writers._put_frame(np.full((32, 48, 3), value, np.uint8), path, rate)
    writers._end_video()
    capture = cv2.VideoCapture(str(path))
    assert writers.written == {path} and capture.get(cv2.CAP_PROP_FRAME_COUNT) == 2
    assert capture.get(cv2.CAP_PROP_FPS) == pytest.approx(rate, rel=1e-3)


def test_the_film_of_a_camera_takes_as_long_as_it_did(tmp_path):
    """Between two pictures the driver drops what came meanwhile."""
    writers, path = Writers(tmp_path, ['red']), tmp_path / 'drawn/camera_0.mp4'
    # 30 a second: the last but one has no place.
    for seconds, value in ((0, 0), (0.5, 80), (0.53, 160), (0.535, 30), (2, 240)):
        writers._put_frame(np.full((32, 48, 3), value, np.uint8), path, 30.0, seconds)
    writers.close()
    capture, shown = cv2.VideoCapture(str(path)), []
    while (frame := capture.read())[0]:
        shown.append(round(frame[1].mean() / 10) * 10)
    assert shown == 15 * [0] + [80, 160] + 43 * [30] + [240]


def test_nothing_does_not_replace_what_there_is(tmp_path):
    (tmp_path / 'predictions.json').write_text('of an hour of work')
    assert [path.name for path in Writers(tmp_path, ['red']).close()] == ['predictions.json']
    assert (tmp_path / 'predictions.json').read_text() == 'of an hour of work'


def test_ids_that_are_texts(tmp_path):
    images = [dict(file_name='a/1.png', id='000001'), dict(file_name='2.png', id=7)]
    content = dict(images=images, categories=[dict(name='red', id='r')])
    file = tmp_path / 'truth.json'
    file.write_text(json.dumps(content))
    assert read_ids(file, ['red']) == ({'1.png': '000001', '2.png': 7}, dict(red='r'))
    images[0]['id'] = 2.0  # as pandas writes them
    file.write_text(json.dumps(content))
    assert read_ids(file, ['red'])[0]['1.png'] == 2
    images[0]['id'] = 1.5
    file.write_text(json.dumps(content))
    with pytest.raises(ValueError, match='1.5 is neither a whole number nor a text'):
        read_ids(file, ['red'])
