"""Files that are called images."""

import io
import struct
import zlib

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from mmdet_yolo2fl.darknet.data_set import darknet_to_coco
from mmdet_yolo2fl.datasets import CheckedLoadImageFromFile
from mmdet_yolo2fl.inference import find_sources, frames

from .reaction import FUZZ, react


def encoded(kind, mode='RGB', size=(9, 7), **options):
    buffer = io.BytesIO()
    Image.new(mode, size, 100).save(buffer, kind, **options)
    return buffer.getvalue()


def png(width, height, depth=8, color=2, data=b''):
    """A PNG whose header says what it likes."""

    def chunk(kind, body):
        return (
            struct.pack('>I', len(body)) + kind + body + struct.pack('>I', zlib.crc32(kind + body))
        )

    head = struct.pack('>IIBBBBB', width, height, depth, color, 0, 0, 0)
    body = chunk(b'IHDR', head) + chunk(b'IDAT', zlib.compress(data)) + chunk(b'IEND', b'')
    return b'\x89PNG\r\n\x1a\n' + body


def turned():
    exif = Image.Exif()
    exif[0x0112] = 6
    return encoded('JPEG', exif=exif)


JPEG, PNG = encoded('JPEG'), encoded('PNG')
BROKEN = {
    'empty': b'',
    'text': b'this is no image',
    'html': b'<html>404</html>',
    'JPEG header': JPEG[:4],
    'JPEG half': JPEG[: len(JPEG) // 4],
    'PNG half': PNG[: len(PNG) // 2],
    'PNG signature': PNG[:8],
    'zeros': bytes(1000),
    'bomb': png(60_000, 60_000),
    'bomb with data': png(50_000, 50_000, data=bytes(100_000)),
    'largest': png(2**31 - 1, 2**31 - 1),
    'no width': png(0, 10),
    'impossible depth': png(10, 10, depth=7),
    'BMP header': b'BM' + bytes(50),
    'huge BMP': b'BM'
    + struct.pack('<IHHIIiiHHIIIIII', 54, 0, 0, 54, 40, 10**9, 10**9, 1, 24, *[0] * 6),
    'zip': b'PK\3\4' + bytes(100),
    'svg': b'<svg xmlns="http://www.w3.org/2000/svg"/>',
}
# Unusual, but images: three channels come of them.
SOUND = {
    '16 bit': (cv2.imencode('.png', np.full((7, 9), 40_000, np.uint16))[1].tobytes(), (7, 9)),
    'grey': (encoded('PNG', 'L'), (7, 9)),
    'RGBA': (encoded('PNG', 'RGBA'), (7, 9)),
    'palette': (encoded('PNG', 'P'), (7, 9)),
    'one bit': (encoded('PNG', '1'), (7, 9)),
    'CMYK': (encoded('JPEG', 'CMYK'), (7, 9)),
    'one pixel': (encoded('PNG', size=(1, 1)), (1, 1)),
    'one row': (encoded('PNG', size=(3000, 1)), (1, 3000)),
    'turned by EXIF': (turned(), (9, 7)),
    'another type': (encoded('BMP'), (7, 9)),
    'more behind': (JPEG + b'something else', (7, 9)),
}


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp('images')
    (folder / 'obj.names').write_text('red\n')
    (folder / 'obj.data').write_text('names = obj.names\ntrain = train.txt\n')
    (folder / 'train.txt').write_text('image.png\n')
    (folder / 'image.txt').write_text('0 0.5 0.5 1 1\n')
    return folder


def readers(folder):
    """What reads images: training, prediction, the conversion of Darknet's data."""
    path = folder / 'image.png'

    def predicted():
        (source,) = find_sources([str(path)])
        return [frame.image for frame in frames(source)][0]

    def converted():
        report, *_ = darknet_to_coco(folder / 'obj.data', folder / 'out', skip_bad=True)
        written = (folder / 'out/train.json').read_text()
        assert 'NaN' not in written
        return report

    return dict(
        trained=lambda: CheckedLoadImageFromFile().transform(dict(img_path=str(path)))['img'],
        predicted=predicted,
        converted=converted,
    )


@pytest.mark.parametrize('case', BROKEN)
def test_broken(folder, case):
    (folder / 'image.png').write_bytes(BROKEN[case])
    for name, read in readers(folder).items():
        reaction = react('image', (name, case), read, ['image.png'])
        if name != 'converted':
            assert reaction.error is not None or case == 'JPEG half', (name, case)
        elif reaction.error is None:  # it reads headers only
            counts = reaction.value.counts
            assert counts['bad: image unreadable'] + counts['images'] == 1


@pytest.mark.parametrize('case', SOUND)
def test_sound(folder, case):
    content, size = SOUND[case]
    (folder / 'image.png').write_bytes(content)
    for name, read in readers(folder).items():
        reaction = react('image', (name, case), read)
        assert reaction.error is None, (name, case)
        if name != 'converted':
            assert reaction.value.shape == (*size, 3) and reaction.value.dtype == np.uint8


@settings(FUZZ, max_examples=60)
@given(
    source=st.sampled_from([JPEG, PNG]),
    at=st.floats(0, 1),
    cut=st.integers(0, 20),
    put=st.binary(max_size=8),
)
def test_any_byte_lost_or_added(folder, source, at, cut, put):
    start = int(at * len(source))
    content = source[:start] + put + source[start + cut :]
    (folder / 'image.png').write_bytes(content)
    for name, read in readers(folder).items():
        react('image', (name, content), read, ['image.png'])
