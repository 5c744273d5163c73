"""What only some videos and pictures need of the writers."""

import cv2
import numpy as np
import pytest

from mmdet_yolo2fl.inference import Writers


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
