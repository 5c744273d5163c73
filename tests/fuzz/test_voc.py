"""VOC annotations that are damaged, hostile or do not fit the config."""

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mmdet.registry import DATASETS
from mmengine.registry import init_default_scope

from mmdet_yolo2fl.datasets.annotation_check import check_annotations

from .reaction import FUZZ, react, refuse

GOOD = """<annotation><size><width>90</width><height>60</height><depth>3</depth></size>
<object><name>red</name><difficult>0</difficult>
<bndbox><xmin>5</xmin><ymin>6</ymin><xmax>40</xmax><ymax>50</ymax></bndbox></object>
</annotation>"""
LAUGHS = '<!DOCTYPE a [<!ENTITY a0 "ha">{}]>'.format(
    ''.join(f'<!ENTITY a{n} "{f"&a{n - 1};" * 10}">' for n in range(1, 10))
)
BOX = GOOD[GOOD.index('<bndbox>') : GOOD.index('</object>')]
REFUSED = {
    'empty': '',
    'cut off': GOOD[:100],
    'text': 'no xml',
    'two roots': GOOD + GOOD,
    'laughs': LAUGHS + GOOD.replace('red', '&a9;'),
    'external entity': '<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]>'
    + GOOD.replace('red', '&x;'),
    'unknown entity': GOOD.replace('red', '&nothing;'),
    'unknown encoding': '<?xml version="1.0" encoding="none"?>' + GOOD,
    'no name': GOOD.replace('<name>red</name>', ''),
    'empty name': GOOD.replace('red', ''),
    'no box': GOOD.replace(BOX, ''),
    'size without width': GOOD.replace('<width>90</width>', ''),
    'size of text': GOOD.replace('90', 'wide'),
    'size of a fraction': GOOD.replace('90', '90.5'),
    'size zero': GOOD.replace('90', '0'),
    'size negative': GOOD.replace('90', '-90'),
    'difficult of text': GOOD.replace('<difficult>0', '<difficult>hard'),
} | {
    f'{corner} {text}': GOOD.replace(f'<{corner}>{value}', f'<{corner}>{text}')
    for corner, value in (('xmin', 5), ('ymin', 6), ('xmax', 40), ('ymax', 50))
    for text in ('', 'left', 'nan', 'inf', '1e400', '1,5', '9' * 5000)
}
# Left out or harmless: how often it is counted.
COUNTED = {
    'other class': (GOOD.replace('red', 'green'), 1),
    'no area': (GOOD.replace('>40<', '>5<'), 1),
    'turned round': (GOOD.replace('>40<', '>2<'), 1),
    'outside': (GOOD.replace('>5<', '>200<').replace('>40<', '>240<'), 1),
    'no size': (GOOD.replace(GOOD[12 : GOOD.index('<object>')], ''), 0),
    'no objects': (GOOD[: GOOD.index('<object>')] + '</annotation>', 0),
    'fraction': (GOOD.replace('>5<', '>5.5<'), 0),
    'comment': (GOOD.replace('<object>', '<!-- x --><object>'), 0),
}


@pytest.fixture(scope='module')
def voc(tmp_path_factory):
    init_default_scope('mmdet')
    root = tmp_path_factory.mktemp('voc')
    for name in ('JPEGImages', 'Annotations'):
        (root / name).mkdir()
    cv2.imwrite(str(root / 'JPEGImages/1.jpg'), np.zeros((60, 90, 3), np.uint8))
    (root / 'list.txt').write_text('1\n')
    return root


def load(root, text, names='1\n'):
    data = text if isinstance(text, bytes) else text.encode()
    (root / 'Annotations/1.xml').write_bytes(data)
    (root / 'list.txt').write_bytes(names if isinstance(names, bytes) else names.encode())
    cfg = dict(
        type='VOCDataset', data_root=str(root), ann_file='list.txt',
        data_prefix=dict(sub_data_root=''), metainfo=dict(classes=('red', 'blue')), pipeline=[],
    )  # fmt: skip
    skipped = check_annotations(cfg)
    dataset = DATASETS.build(cfg)
    return skipped, [dataset.get_data_info(index) for index in range(len(dataset))]


@pytest.mark.parametrize('case', REFUSED)
def test_refused(voc, case):
    message = refuse('annotation', ('voc', case), lambda: load(voc, REFUSED[case]), ['1.xml'])
    assert 'root:' not in message


@pytest.mark.parametrize('case', COUNTED)
def test_counted(voc, case):
    text, count = COUNTED[case]
    reaction = react('annotation', ('voc', case), lambda: load(voc, text), ['1.xml'])
    assert reaction.error is None
    assert sum(reaction.value[0].values()) == count


@pytest.mark.parametrize('names', ['2\n', '../1\n', '\n1\n', b'\xff\xfe1', 'a\0b\n'], ids=repr)
def test_lists_of_images(voc, names):
    reaction = react(
        'annotation', ('voc list', names), lambda: load(voc, GOOD, names), ['list.txt']
    )
    assert reaction.error is not None


@settings(FUZZ, max_examples=60)
@given(at=st.floats(0, 1), cut=st.integers(0, 12), put=st.binary(max_size=4))
def test_any_byte_lost_or_added(voc, at, cut, put):
    text = GOOD.encode()
    start = int(at * len(text))
    text = text[:start] + put + text[start + cut :]
    reaction = react('annotation', ('voc', text), lambda: load(voc, text), ['1.xml'])
    if reaction.error is None:
        for info in reaction.value[1]:
            assert np.isfinite([one['bbox'] for one in info['instances']] or [0]).all()
