"""Tables as text."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmdet_yolo2fl.study_tables import curve_metric, read_curves, write_curves
from mmdet_yolo2fl.tables import csv_text, markdown_table, read_table

# Carriage returns are told from new lines nowhere.
text = st.text(st.characters(exclude_characters='\r', exclude_categories=['Cs']), min_size=1)


@given(st.lists(st.tuples(text, text), min_size=1))
def test_what_is_written_is_read(tmp_path_factory, lines):
    file = tmp_path_factory.mktemp('table') / 'a.csv'
    file.write_text(csv_text(['one, two', 'a "b"'], lines), 'utf-8', newline='')
    head, found = read_table(file)
    assert head == ['one, two', 'a "b"'] and [tuple(line.values()) for line in found] == lines


def test_a_spreadsheet_and_what_is_none(tmp_path):
    file = tmp_path / 'a.csv'
    file.write_text('row\n1\n', 'utf-8-sig')
    assert read_table(file) == (['row'], [dict(row='1')])
    file.write_bytes(b'row\n\xff\n')
    with pytest.raises(ValueError, match='a.csv: no table of comma-separated values'):
        read_table(file)


def test_markdown():
    assert markdown_table(['', 'a|b'], [[1, 'c|'], ['', 2.5]]).splitlines() == [
        '|  | a&#124;b |',
        '|---|---|',
        '| 1 | c&#124; |',
        '|  | 2.5 |',
    ]


def test_curves_of_a_class_with_a_comma(tmp_path):
    file, metric = tmp_path / 'a_curves.csv', 'coco/car, red_precision'
    result = dict(row='a, "b"', seed=3, curve=[{'epoch': 2, metric: 0.25}])
    write_curves(file, [result], metric)
    assert curve_metric(file) == metric
    assert read_curves(file) == {'a, "b"': {3: [(2, 0.25)]}}


@pytest.mark.parametrize(
    'text', ['row;seed;epoch;AP50\na;0;1;0.5\n', 'row,seed,epoch,a\na,0,1,x\n']
)
def test_broken_curves(tmp_path, text):
    file = tmp_path / 'a_curves.csv'
    file.write_text(text)
    with pytest.raises(ValueError, match=r'a_curves.csv, line 2: '):
        read_curves(file)
