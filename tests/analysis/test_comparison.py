"""Kinds of error side by side, against figures counted by hand."""

import csv
import json
import shutil
from pathlib import Path

import pytest

from mmdet_yolo2fl.analysis.comparison import (
    COUNTS,
    draw,
    error_lines,
    markdown,
    mean_errors,
    write_comparison,
)


def summary(missed, background, ap, truths=10):
    """Of a class that is there and one that is not."""
    none = dict.fromkeys(COUNTS, 0) | dict(name='rare', truths=0, threshold=0.5)
    none |= dict(ap=None, ap50=None, ap_by_size=dict(small=None))
    some = none | dict(name='cell', truths=truths, missed=missed, threshold=0.3)
    some |= dict(background=background, localization=1, false=background + 1)
    classes = [some | dict(ap=ap, ap50=2 * ap, ap_by_size=dict(small=ap)), none]
    facts = {'Data set': 'CocoDataset val.json (val)'}
    return dict(classes=classes, facts=facts, iou_thr=0.5, threshold_text='0.3')


RUNS = {
    Path('study/focal/seed_10'): summary(2, 3, 0.25),
    Path('study/focal/seed_11'): summary(5, 4, 0.35),
    Path('study/plain'): summary(1, 0, 0.125),
}


def test_means_over_the_seeds():
    focal, plain, *rare = mean_errors(error_lines(RUNS))
    assert (focal['row'], focal['seeds'], plain['row'], plain['seeds']) == ('focal', 2, 'plain', 1)
    assert (focal['missed'], focal['false'], focal['background']) == (3.5, 4.5, 3.5)
    assert focal['ap'] == pytest.approx(0.3) and focal['ap small'] == pytest.approx(0.3)
    assert [line['ap'] for line in rare] == [None, None]
    table = markdown([focal, plain, *rare]).splitlines()
    assert table[0].split('|')[-4:] == [' AP ', ' AP50 ', ' AP small ', '']
    assert table[2] == (
        '| cell | focal | 2 | 10 | 3.5 | 4.5 | 0.0 | 0.0 | 1.0 | 0.0 | 3.5 | 30.0 | 60.0 | 30.0 |'
    )
    assert table[3].startswith('| cell | plain | 1 | 10 | 1 | 1 | 0 | 0 | 1 | 0 | 0 | 12.5 | 25.0')


def test_rows_of_one_name_and_seeds_alone():
    lines = error_lines({Path('a/focal/seed_0'): RUNS[Path('study/plain')]} | RUNS)
    assert [(line['row'], line['seed']) for line in lines[::2]] == [
        ('a/focal', '0'),
        ('study/focal', '10'),
        ('study/focal', '11'),
        ('study/plain', ''),
    ]


def test_rows_by_the_names_of_their_study(tmp_path):
    folder = tmp_path / 'a/Cells_of_16/seed_3'
    folder.mkdir(parents=True)
    (folder / 'result.json').write_text(json.dumps(dict(row='Cells, of 16')))
    (folder / 'config_hash').touch()
    (tmp_path / 'b').mkdir()
    (tmp_path / 'b/result.json').write_text('[]')  # of no study
    other = RUNS[Path('study/plain')]
    lines = error_lines({folder: other, tmp_path / 'b': other})
    assert [line['row'] for line in lines[::2]] == ['Cells, of 16', 'b']
    second = tmp_path / 'b/Cells_of_16/seed_3'
    shutil.copytree(folder, second)
    lines = error_lines({folder: other, second: other})
    assert [line['row'] for line in lines[::2]] == ['a/Cells_of_16', 'b/Cells_of_16']


def test_the_picture_has_what_was_counted():
    axis, _ = draw(mean_errors(error_lines(RUNS))).axes
    assert axis.get_title() == 'cell, 10 truths'
    bars = {bars.get_label(): [bar.get_width() for bar in bars] for bars in axis.containers}
    assert bars['missed'] == [-3.5, -1]
    assert bars['false: background'] == [3.5, 0] and bars['false: localization'] == [1, 1]


def test_the_legend_of_one_class_is_whole():
    means = [line for line in mean_errors(error_lines(RUNS)) if line['name'] == 'cell']
    figure = draw(means, 'What has been counted ' * 5)
    figure.canvas.draw()
    (legend,), title = figure.legends, figure._suptitle
    for part in (legend, title):
        extent = part.get_window_extent()
        assert figure.bbox.x0 <= extent.x0 and extent.x1 <= figure.bbox.x1


def test_files(tmp_path):
    text, files = write_comparison(tmp_path / 'new', RUNS)
    assert [file.name for file in files] == ['errors.csv', 'errors.md', 'errors.png']
    assert files[1].read_text() == text + '\n'
    what = 'CocoDataset val.json (val), IoU 0.5, predictions with scores from 0.3 on:'
    assert text.startswith(f'{what}\n\n| class |')
    with open(files[0], newline='') as stream:
        lines = list(csv.DictReader(stream))
    assert len(lines) == 6 and lines[1]['ap'] == ''
    assert (lines[2]['row'], lines[2]['seed'], lines[2]['missed']) == ('focal', '11', '5')


def test_other_boxes(tmp_path):
    runs = RUNS | {Path('study/other'): summary(1, 0, 0.5, truths=11)}
    with pytest.raises(ValueError, match="study/other was tested on other boxes .*'cell': 11"):
        write_comparison(tmp_path / 'new', runs)
    assert not (tmp_path / 'new').exists()
