"""Darknet data sets with bad lines, bad options and bytes that are no text."""

import json
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmdet_yolo2fl.darknet.data_set import darknet_to_coco

from .reaction import FUZZ, react, refuse

BAD_LINES = [
    '0', '0 0.5', '0 0.5 0.5 0.1', '0 0.5 0.5 0.1 0.1 0.9', 'red 0.5 0.5 0.1 0.1',
    '0.0 0.5 0.5 0.1 0.1', '2 0.5 0.5 0.1 0.1', '-1 0.5 0.5 0.1 0.1',
    '99999999999999999999 1 1 1 1', '0 nan 0.5 0.1 0.1', '0 0.5 inf 0.1 0.1', '0 0.5 0.5 nan 0.1',
    '0 0.5 0.5 1e400 0.1',
    '0 a b c d', '0 0.5 0.5 0 0.1', '0 0.5 0.5 -0.1 0.1', '0 0.5 0.5 1.5 0.1', '0 0.5 0.5 40 30',
    '0 1.5 0.5 0.1 0.1', '0 -0.1 0.5 0.1 0.1', '0,0.5,0.5,0.1,0.1', '<xml>', '\0\0\0',
    '0x0 0 0 1 1', '0 0.5 0.5 1e-400 0.1', '0 ' + '9' * 5000 + ' 0.5 0.1 0.1', '１ 0.5 0.5 2 2',
]  # fmt: skip
BAD_DATA = {
    'empty': '',
    'no names': 'train = train.txt\n',
    'no splits': 'names = obj.names\n',
    'no equals sign': 'names obj.names\n',
    'no value': 'names = \ntrain = train.txt\n',
    'names missing': 'names = none.names\ntrain = train.txt\n',
    'list missing': 'names = obj.names\ntrain = none.txt\n',
    'names are a folder': 'names = .\ntrain = train.txt\n',
    'other number': 'classes = 3\nnames = obj.names\ntrain = train.txt\n',
    'number of text': 'classes = two\nnames = obj.names\ntrain = train.txt\n',
    'NUL': 'names = a\0b\ntrain = train.txt\n',
    'binary': b'\xff\xfe\x00names',
    'large': b'#' * (1 << 21),
    'list of nothing': 'names = obj.names\ntrain = empty.txt\n',
    'list of missing images': 'names = obj.names\ntrain = missing.txt\n',
    'binary list': 'names = obj.names\ntrain = binary.txt\n',
    'names twice': 'names = twice.names\ntrain = train.txt\n',
    'names empty': 'names = empty.txt\ntrain = train.txt\n',
    'names binary': 'names = binary.txt\ntrain = train.txt\n',
    'names with a gap': 'names = gap.names\ntrain = train.txt\n',
    'very long name': 'names = ' + 'x' * 5000 + '\ntrain = train.txt\n',
}


@pytest.fixture(scope='module')
def place(world, tmp_path_factory):
    data, _, _ = world
    folder = tmp_path_factory.mktemp('darknet_data')
    (folder / 'image.png').write_bytes((data / '1.png').read_bytes())
    for name, text in {
        'obj.names': 'red\nblue\n', 'train.txt': 'image.png\n', 'empty.txt': '',
        'missing.txt': 'none.png\n', 'twice.names': 'red\nred\n', 'gap.names': 'red\n\nblue\n',
        'obj.data': 'names = obj.names\ntrain = train.txt\n',
    }.items():  # fmt: skip
        (folder / name).write_text(text)
    (folder / 'binary.txt').write_bytes(bytes(range(256)))
    return folder


def convert(folder, **options):
    return darknet_to_coco(folder / 'obj.data', folder / 'out', **options)


@pytest.mark.parametrize('line', BAD_LINES, ids=lambda line: line[:20])
def test_a_bad_line_is_named_or_counted(place, line):
    (place / 'image.txt').write_text(f'0 0.5 0.5 0.2 0.2\n{line}\n', encoding='utf-8')
    reaction = react('annotation', ('label', line), lambda: convert(place), folder=place)
    report, *_ = reaction.value
    assert len(report.bad) == 1 and 'image.txt:2: ' in report.bad[0]
    assert not (place / 'out').exists()  # nothing is written
    report, *_ = convert(place, skip_bad=True)
    written = json.loads((place / 'out/train.json').read_text())
    assert len(written['annotations']) == 1
    assert sum(count for kind, count in report.counts.items() if kind.startswith('bad')) == 1
    (place / 'out/train.json').unlink()
    (place / 'out').rmdir()


@pytest.mark.parametrize('case', BAD_DATA)
def test_bad_data_files(place, case):
    content = BAD_DATA[case]
    good = (place / 'obj.data').read_bytes()
    try:
        data = content if isinstance(content, bytes) else content.encode()
        (place / 'obj.data').write_bytes(data)
        names = ['obj.data', '.names', '.txt']
        refuse('annotation', ('data', case), lambda: convert(place), names, folder=place)
    finally:
        (place / 'obj.data').write_bytes(good)


@settings(FUZZ, max_examples=60)
@given(text=st.binary(max_size=60) | st.text('0123456789.e-+ \nnaif', max_size=40).map(str.encode))
def test_any_bytes_as_labels(place, text):
    (place / 'image.txt').write_bytes(text)
    reaction = react('annotation', ('label', text), lambda: convert(place, skip_bad=True))
    report, *_ = reaction.value
    boxes = [
        one['bbox'] for one in json.loads((place / 'out/train.json').read_text())['annotations']
    ]
    assert all(math.isfinite(side) for box in boxes for side in box)
    lines = [line for line in text.decode('utf-8-sig', 'replace').splitlines() if line.split()]
    assert len(boxes) + len(report.bad) == len(lines)
    (place / 'out/train.json').unlink()
    (place / 'out').rmdir()
