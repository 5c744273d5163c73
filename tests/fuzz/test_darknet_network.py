"""Darknet's cfgs with every option broken, and weights that are none."""

import math
import struct

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmdet_yolo2fl.darknet.network import read_network
from mmdet_yolo2fl.darknet.to_mmdet import darknet_to_mmdet, mmdet_config
from tests.darknet import networks

from .reaction import FUZZ, react, refuse

SMALL = networks.NETWORKS['yolov2-tiny-voc'] | dict(
    width=1 / 16, size=(64, 64), classes=2, anchors='0.5,0.5, 1,1'
)
WIDE = networks.NETWORKS['yolov2-voc'] | dict(
    width=1 / 64, size=(64, 64), classes=2, anchors='0.5,0.5, 1,1'
)
VALUES = (
    '',
    'many',
    '-1',
    '0.5',
    'nan',
    'inf',
    '1e99',
    '9' * 400,
    '1,2,3',
    '{{_base_.x}}',
    "'",
    '７',
)


def sections(text):
    """``(section, option)`` of a cfg, each once."""
    found, section = {}, None
    for number, line in enumerate(text.splitlines()):
        line = line.strip()
        if line.startswith('['):
            section = line
        elif '=' in line and not line.startswith('#'):
            found.setdefault((section, line.partition('=')[0].strip()), number)
    return found


def write(tmp, name, recipe):
    cfg, weights = networks.write(tmp, name, **recipe)
    cfg.with_suffix('.names').write_text('red\nblue\n')
    return cfg, weights


@pytest.fixture(scope='module')
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp('networks')
    return folder, {
        name: write(folder, name, recipe) for name, recipe in (('small', SMALL), ('wide', WIDE))
    }


def convert(path):
    network = read_network(path)
    return mmdet_config(network, ('red', 'blue'), True, 'darknet')


def numbers(node):
    if isinstance(node, dict):
        node = list(node.values())
    if isinstance(node, (list, tuple)):
        for one in node:
            yield from numbers(one)
    elif isinstance(node, float):
        yield node


@pytest.mark.parametrize('name', ['small', 'wide'])
@pytest.mark.parametrize('value', VALUES)
def test_every_option_broken(files, name, value):
    """Each is refused by file and line, or, where Darknet has a use for it, stays finite."""
    folder, made = files
    text = made[name][0].read_text()
    path = folder / 'broken.cfg'
    for (section, option), number in sections(text).items():
        lines = text.splitlines()
        lines[number] = f'{option}={value}'
        path.write_text('\n'.join(lines), encoding='utf-8')
        case = (name, section, option, value)
        reaction = react('cfg', case, lambda: convert(path), ['broken.cfg:'])
        if reaction.error is None:
            # What only Darknet's training reads is kept as it is.
            assert all(map(math.isfinite, numbers(reaction.value.to_dict()))), case


@pytest.mark.parametrize('name', ['small', 'wide'])
def test_every_section_lost_doubled_or_replaced(files, name):
    folder, made = files
    lines = made[name][0].read_text().splitlines()
    path = folder / 'broken.cfg'
    starts = [number for number, line in enumerate(lines) if line.startswith('[')]
    ends = [*starts[1:], len(lines)]
    for start, end in zip(starts, ends):
        for what, text in {
            'lost': lines[:start] + lines[end:],
            'doubled': lines[:end] + lines[start:],
            'unknown': [*lines[:start], '[dropout]', *lines[start + 1 :]],
            'of a YOLOv3': [*lines[:start], '[yolo]', *lines[start + 1 :]],
            'open': [*lines[:start], lines[start][:-1], *lines[start + 1 :]],
        }.items():
            path.write_text('\n'.join(text))
            case = (name, start, what)
            reaction = react('cfg', case, lambda: convert(path), ['broken.cfg'])
            # A further 3x3 convolution before the last one is a network of the same kind.
            assert reaction.error is not None or what in ('lost', 'doubled'), case


TEXTS = {
    'empty': b'', 'comment': b'# nothing\n', 'binary': bytes(range(256)) * 4, 'NUL': b'\0' * 50,
    'option first': b'width=64\n', 'large': b'[net]\n' * 300_000, 'net only': b'[net]\nwidth=64\n',
    'utf16': '[net]\nwidth=64\n'.encode('utf-16'), 'latin': b'[net]\n# \xe9\xff\nwidth=64',
    'no equals': b'[net]\nwidth 64\n', 'twice': b'[net]\nwidth=64\nwidth=64\n',
    'python': b'[net]\n__import__("os").system("true")\n', 'brackets': b'[[[[\n', 'html': b'<p>',
    'deep': b'[net]\nwidth=64\nheight=64\n' + b'[convolutional]\nsize=3\npad=1\n' * 20_000,
}  # fmt: skip


@pytest.mark.parametrize('case', TEXTS)
def test_no_cfg(tmp_path, case):
    path = tmp_path / 'broken.cfg'
    path.write_bytes(TEXTS[case])
    refuse('cfg', case, lambda: read_network(path), ['broken.cfg'])


@settings(FUZZ, max_examples=80)
@given(at=st.floats(0, 1), cut=st.integers(0, 30), put=st.binary(max_size=8))
def test_any_byte_of_a_cfg(files, at, cut, put):
    folder, made = files
    text = made['small'][0].read_bytes()
    start = int(at * len(text))
    path = folder / 'broken.cfg'
    path.write_bytes(text[:start] + put + text[start + cut :])
    react('cfg', path.read_bytes(), lambda: convert(path), ['broken.cfg'])


def header(major=0, minor=2, revision=0, seen=0):
    return struct.pack('<iiiq', major, minor, revision, seen)


WEIGHTS = {
    'empty': lambda good: b'',
    'header only': lambda good: good[:20],
    'half a header': lambda good: good[:10],
    'half a number': lambda good: good[:-2],
    'a number less': lambda good: good[:-4],
    'a number more': lambda good: good + b'\0\0\0\0',
    'twice': lambda good: good + good[20:],
    'half': lambda good: good[: 20 + (len(good) - 20) // 8 * 4],
    'negative version': lambda good: header(major=-1) + good[20:],
    'negative seen': lambda good: header(seen=-5) + good[20:],
    'old header': lambda good: header(minor=1) + good[20:],
    'large version': lambda good: header(major=10**6) + good[20:],
    'NaN': lambda good: good[:20] + struct.pack('<f', math.nan) + good[24:],
    'infinite': lambda good: good[:-4] + struct.pack('<f', math.inf),
    'all ones': lambda good: header() + b'\xff' * (len(good) - 20),
    'negative variance': lambda good: good[:20] + struct.pack('<f', -3.0) * ((len(good) - 20) // 4),
    'text': lambda good: b'<html>not found</html>' * 40,
    'pickle': lambda good: b'\x80\x04\x95' + good,
    'zip': lambda good: b'PK\3\4' + good,
}


def hostile_or_finite(folder, cfg, case, kind):
    out = folder / 'converted'

    def call():
        config, checkpoint = darknet_to_mmdet(cfg, folder / 'bad.weights', out)
        content = torch.load(checkpoint, weights_only=True)['state_dict']
        assert all(value.isfinite().all() for value in content.values()), 'NaN in the checkpoint'
        config.unlink(), checkpoint.unlink(), out.rmdir()
        return content

    return react(kind, case, call, ['bad.weights'], folder=folder)


@pytest.mark.parametrize('case', WEIGHTS)
def test_bad_weights(files, case):
    folder, made = files
    cfg, weights = made['small']
    (folder / 'bad.weights').write_bytes(WEIGHTS[case](weights.read_bytes()))
    reaction = hostile_or_finite(folder, cfg, case, 'weights')
    assert reaction.error is not None


@pytest.mark.parametrize('name', ['small.cfg', '.', 'none.weights', 'a\0b'])
def test_no_weights_file(files, name):
    folder, made = files
    path = folder / name
    call = lambda: darknet_to_mmdet(made['small'][0], path, folder / 'converted')  # noqa: E731
    refuse('weights', name, call, ['.cfg', 'networks', 'weights', 'null'], folder=folder)


@settings(FUZZ, max_examples=40)
@given(start=st.binary(min_size=16, max_size=24), numbers=st.lists(st.floats(width=32), max_size=9))
def test_any_header_and_numbers(files, start, numbers):
    folder, made = files
    cfg, weights = made['small']
    body = np.frombuffer(weights.read_bytes()[20:], '<f4').copy()
    body[: len(numbers)] = numbers
    content = start + body.tobytes()
    (folder / 'bad.weights').write_bytes(content)
    hostile_or_finite(folder, cfg, (start, numbers), 'weights')
