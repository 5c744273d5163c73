"""COCO annotations that are damaged or do not fit the config."""

import copy
import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mmdet.registry import DATASETS
from mmengine.registry import init_default_scope

from mmdet_yolo2fl.darknet.data_set import coco_to_darknet
from mmdet_yolo2fl.datasets.annotation_check import IGNORED, check_annotations
from mmdet_yolo2fl.inference.writers import read_ids

from .reaction import FUZZ, react

CLASSES = ('red', 'blue')
NAN, INF = math.nan, math.inf
SKIPPED = (
    'annotations of images that the file does not list',
    'objects of classes that the config does not name',
    'annotations marked to be ignored',
    'boxes of less than a pixel',
    'boxes whose "area" is not positive',
    'boxes outside their image',
)


def change(*path, to=None, delete=False):
    """A function that changes a place of the content."""

    def apply(content):
        *way, last = path
        for key in way:
            content = content[key]
        if delete:
            del content[last]
        else:
            content[last] = to

    return apply


ENTRY_JUNK = (None, 'text', -1, NAN, INF, 10**400, [], {}, True)
TABLE = {
    f'{path} = {str(junk)[:12]}': change(*path, to=junk)
    for path in (
        ('images',), ('annotations',), ('categories',), ('images', 0), ('annotations', 0),
        ('categories', 0), ('images', 0, 'id'), ('images', 0, 'file_name'), ('images', 0, 'width'),
        ('images', 0, 'height'), ('annotations', 0, 'bbox'), ('annotations', 0, 'bbox', 0),
        ('annotations', 0, 'bbox', 2), ('annotations', 0, 'area'), ('annotations', 0, 'id'),
        ('annotations', 0, 'image_id'), ('annotations', 0, 'category_id'),
        ('categories', 0, 'id'), ('categories', 0, 'name'),
    )
    for junk in ENTRY_JUNK
}  # fmt: skip
TABLE |= {
    f'without {path}': change(*path, delete=True)
    for path in (
        ('images',), ('annotations',), ('categories',), ('images', 1), ('categories', 1),
        ('images', 0, 'id'), ('images', 0, 'file_name'), ('images', 0, 'width'),
        ('annotations', 0, 'bbox'), ('annotations', 0, 'area'), ('annotations', 0, 'id'),
        ('annotations', 0, 'image_id'), ('annotations', 0, 'category_id'),
        ('annotations', 0, 'bbox', 3), ('categories', 0, 'id'), ('categories', 0, 'name'),
    )
}  # fmt: skip
TABLE |= {
    'ids twice': change('annotations', 1, 'id', to=1),
    'images twice': change('images', 1, 'id', to=1),
    'categories twice': change('categories', 1, 'id', to=1),
    'names twice': change('categories', 1, 'name', to='red'),
    'order of classes': lambda content: content['categories'].reverse(),
    'other classes': change('categories', to=[dict(id=1, name='green'), dict(id=2, name='blue')]),
    'image missing': change('images', 0, 'file_name', to='none.png'),
    'leads away': change('images', 0, 'file_name', to='../../../etc/nothing'),
    'absolute': change('images', 0, 'file_name', to='/nowhere/1.png'),
    'NUL in a name': change('images', 0, 'file_name', to='1\0.png'),
    'box outside': change('annotations', 0, 'bbox', to=[500, 500, 10, 10]),
    'box without area': change('annotations', 0, 'bbox', to=[5, 5, 0, 10]),
    'box negative': change('annotations', 0, 'bbox', to=[5, 5, -3, -3]),
    'box of text': change('annotations', 0, 'bbox', to=['1', '2', '3', '4']),
    'size zero': change('images', 0, 'width', to=0),
    'unknown image': change('annotations', 0, 'image_id', to=99),
    'unknown category': change('annotations', 0, 'category_id', to=99),
    'nothing': lambda content: content.update(images=[], annotations=[]),
}
TEXTS = {
    'empty': b'', 'half': b'{"images": [', 'list': b'[]', 'null': b'null', 'number': b'17',
    'binary': bytes(range(256)), 'deep': b'[' * 20000 + b']' * 20000, 'html': b'<html></html>',
    'utf16': '{"images": []}'.encode('utf-16'), 'NUL': b'\0' * 100,
}  # fmt: skip


@pytest.fixture(scope='module')
def place(world, tmp_path_factory):
    """Folder with the images, and the content of a good annotation file."""
    data, _, _ = world
    init_default_scope('mmdet')
    return data, json.loads((data / 'train.json').read_text()), tmp_path_factory.mktemp('coco')


def consume(text, data, folder, case):
    """All three readers of the project: training, conversion to Darknet, ids of predictions."""
    path = folder / 'bad.json'
    path.write_bytes(text)
    cfg = dict(
        type='CocoDataset', data_root=str(data), ann_file=str(path), data_prefix=dict(img=''),
        metainfo=dict(classes=CLASSES), pipeline=[],
    )  # fmt: skip

    def load():
        skipped = check_annotations(cfg)
        dataset = DATASETS.build(cfg)
        return skipped, [dataset.get_data_info(index) for index in range(len(dataset))]

    reaction = react('annotation', ('coco', case), load, ['bad.json'])
    if reaction.error is None:
        skipped, infos = reaction.value
        assert set(skipped) <= {*SKIPPED, IGNORED}
        boxes = [one['bbox'] for info in infos for one in info['instances']]
        assert np.isfinite(np.array(boxes, float)).all()
        del skipped[IGNORED]  # which the data set keeps, marked
        total = len(json.loads(text).get('annotations', []))
        assert len(boxes) + sum(skipped.values()) == total, (skipped, boxes)
    out = folder / 'darknet'
    react(
        'annotation', ('to darknet', case), lambda: coco_to_darknet(path, data, out), ['bad.json']
    )
    react('annotation', ('ids', case), lambda: read_ids(path, CLASSES), ['bad.json'])
    return reaction


@pytest.mark.parametrize('case', TABLE)
def test_a_changed_entry(place, case):
    data, good, folder = place
    content = copy.deepcopy(good)
    TABLE[case](content)
    consume(json.dumps(content).encode(), data, folder, case)


@pytest.mark.parametrize('case', TEXTS)
def test_no_json(place, case):
    data, _, folder = place
    assert consume(TEXTS[case], data, folder, case).error is not None


def test_a_good_file_is_taken(place):
    data, good, folder = place
    reaction = consume(json.dumps(good).encode(), data, folder, 'good')
    assert reaction.error is None and not reaction.value[0]


def places(node, path=()):
    """Every way into the content."""
    items = node.items() if isinstance(node, dict) else enumerate(node)
    for key, value in items:
        yield (*path, key)
        if isinstance(value, (dict, list)):
            yield from places(value, (*path, key))


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=5,
)


@settings(FUZZ, max_examples=60)
@given(data=st.data())
def test_any_entry_replaced_by_anything(place, data):
    folder_of_images, good, folder = place
    content = copy.deepcopy(good)
    for _ in range(data.draw(st.integers(1, 2))):
        path = data.draw(st.sampled_from(sorted(places(content), key=str)))
        change(*path, to=data.draw(JUNK))(content)
    text = json.dumps(content).encode('utf-8', 'surrogatepass')
    consume(text, folder_of_images, folder, text)


@settings(FUZZ, max_examples=40)
@given(at=st.floats(0, 1), cut=st.integers(0, 40), put=st.binary(max_size=6))
def test_any_byte_lost_or_added(place, at, cut, put):
    data, good, folder = place
    text = json.dumps(good).encode()
    start = int(at * len(text))
    text = text[:start] + put + text[start + cut :]
    consume(text, data, folder, text)
