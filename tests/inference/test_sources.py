"""Files, folders, patterns, videos, cameras."""

import itertools

import cv2
import numpy as np
import pytest

from mmdet_yolo2fl.inference import find_sources, frames
from mmdet_yolo2fl.inference.sources import number_of_frames


@pytest.fixture
def folder(tmp_path, monkeypatch):
    (tmp_path / 'a/deep').mkdir(parents=True)
    (tmp_path / 'b').mkdir()
    for number, name in enumerate(('a/1.png', 'a/deep/2.JPG', 'b/1.png')):
        cv2.imwrite(str(tmp_path / name), np.full((8, 12, 3), 60 * number, np.uint8))
    (tmp_path / 'a/notes.txt').write_text('no image')
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write_video(path, number=5, size=(32, 24), rate=10):
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*'MJPG'), rate, size)
    for index in range(number):
        writer.write(np.full((size[1], size[0], 3), 40 * index % 256, np.uint8))
    writer.release()
    return path


def summary(sources):
    return [(source.name, source.path, source.kind) for source in sources]


def test_what_arguments_stand_for(folder):
    assert summary(find_sources(['a'])) == [
        ('1', 'a/1.png', 'image'),
        ('deep/2', 'a/deep/2.JPG', 'image'),
    ]
    # Names of outputs are used once only.
    assert summary(find_sources(['a/1.png', '*/1.png', '0'])) == [
        ('1', 'a/1.png', 'image'),
        ('a/1', 'a/1.png', 'image'),
        ('b/1', 'b/1.png', 'image'),
        ('camera_0', '0', 'camera'),
    ]
    assert [s.name for s in find_sources(['a/1.png', 'b/1.png'])] == ['1', '1_2']
    assert len(find_sources(['**/*.*'])) == 3
    names = [source.name for source in find_sources(['a/../*/1.png', '*/../b/1.png'])]
    assert not any('..' in name for name in names) and len(set(names)) == 3


def test_a_number_that_is_a_file_is_a_file(folder):
    (folder / '7').mkdir()
    cv2.imwrite('7/x.png', np.zeros((4, 4, 3), np.uint8))
    assert summary(find_sources(['7'])) == [('x', '7/x.png', 'image')]


@pytest.mark.parametrize(
    'text, message',
    [
        ('none.jpg', 'none.jpg: there is no such file, folder, pattern or camera'),
        ('*.gif', r'\*.gif: no image or video fits'),
        ('a/notes.txt', 'notes.txt: neither an image .* nor a video'),
        ('empty', 'empty: the folder holds neither'),
    ],
)
def test_arguments_that_stand_for_nothing(folder, text, message):
    (folder / 'empty').mkdir()
    with pytest.raises(ValueError, match=message):
        find_sources([text])


@pytest.mark.parametrize(
    'image', [np.zeros((8, 12), np.uint8), np.zeros((8, 12, 3), np.uint16)], ids=['grey', 'deep']
)
def test_pictures_that_are_no_photographs(folder, image):
    """'Unchanged' a network may take them; as a photograph they would be others."""
    cv2.imwrite('scan.png', image)
    with pytest.raises(ValueError, match=f'scan.png: .*{image.dtype}.*three channels of 8 bits'):
        list(frames(find_sources(['scan.png'])[0], flag='unchanged'))
    (frame,) = frames(find_sources(['b/1.png'])[0], flag='unchanged')
    assert (frame.image == 120).all()


def test_images_are_read_as_the_data_sets_read_them(folder):
    (frame,) = frames(find_sources(['b/1.png'])[0])
    assert frame.number == 0 and frame.rate is None
    assert frame.image.shape == (8, 12, 3) and (frame.image == 120).all()
    cv2.imwrite('grey.png', np.full((8, 12), 9, np.uint8))
    (frame,) = frames(find_sources(['grey.png'])[0])
    assert frame.image.shape == (8, 12, 3)


@pytest.mark.parametrize('content', [b'', b'no image', b'\x89PNG\r\n\x1a\n' + b'\0' * 40])
def test_broken_images_are_named(folder, content):
    (folder / 'broken.png').write_bytes(content)
    with pytest.raises(ValueError, match='broken.png'):
        list(frames(find_sources(['broken.png'])[0]))


def test_videos(folder):
    (source,) = find_sources([str(write_video(folder / 'film.avi'))])
    assert source.kind == 'video' and number_of_frames(source) == 5
    found = list(frames(source))
    assert [frame.number for frame in found] == [0, 1, 2, 3, 4]
    assert all(frame.rate == 10 for frame in found)
    # MJPEG is lossy, but not by much.
    assert [round(frame.image.mean() / 40) for frame in found] == [0, 1, 2, 3, 4]
    assert [frame.number for frame in frames(source, step=2)] == [0, 2, 4]
    assert next(frames(source, step=2)).rate == 5
    assert [frame.number for frame in frames(source, step=2, limit=2)] == [0, 2]


def test_a_video_that_breaks_off_is_named_after_its_frames(folder):
    film = folder / 'film.avi'
    writer = cv2.VideoWriter(str(film), cv2.VideoWriter_fourcc(*'MJPG'), 10, (96, 64))
    for index in range(20):  # of noise: the frames, and not their list, are most of the file
        noise = np.random.default_rng(index).integers(0, 256, (64, 96, 3), np.uint8)
        writer.write(noise)
    writer.release()
    whole = film.read_bytes()
    film.write_bytes(whole[: len(whole) // 2])
    (source,) = find_sources([str(film)])
    seen = []
    with pytest.raises(ValueError, match=r'film.avi: ends after \d+ frames, though it has 20 by'):
        for frame in frames(source):
            seen.append(frame.number)
    assert 0 < len(seen) < 18 and seen == [*range(len(seen))]
    assert len(list(frames(source, limit=3))) == 3


def test_a_video_that_is_none_is_named(folder):
    (folder / 'broken.mp4').write_bytes(b'no video')
    with pytest.raises(ValueError, match='broken.mp4: no frame'):
        list(frames(find_sources(['broken.mp4'])[0]))


def test_a_camera(monkeypatch):
    class Camera:
        opened = []

        def __init__(self, number):
            self.opened.append(number)

        def get(self, _):
            return 0.0  # as many cameras say of their rate

        def read(self):
            return True, np.zeros((4, 6, 3), np.uint8)

        def release(self):
            self.opened.append('released')

    monkeypatch.setattr(cv2, 'VideoCapture', Camera)
    clock = itertools.count(10, 0.5)
    monkeypatch.setattr('time.monotonic', lambda: next(clock))
    (source,) = find_sources(['1'])
    assert number_of_frames(source) is None
    found = list(frames(source, limit=3))
    assert len(found) == 3 and found[0].rate == 25
    assert [frame.seconds for frame in found] == [0, 0.5, 1]
    assert Camera.opened == [1, 'released']


def test_no_camera():
    with pytest.raises(ValueError, match='77: there is no such camera'):
        list(frames(find_sources(['77'])[0]))
