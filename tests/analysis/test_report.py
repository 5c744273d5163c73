"""The report as a parser and as a browser see it."""

import base64
import csv
import json
import re
from html.parser import HTMLParser
from xml.etree import ElementTree

import cv2
import numpy as np
import pytest
from PIL import Image

from mmdet_yolo2fl.analysis import figures
from mmdet_yolo2fl.analysis.curves import best_thresholds, class_curves
from mmdet_yolo2fl.analysis.figures import CURVES_IN_FIGURE
from mmdet_yolo2fl.analysis.pictures import picture
from mmdet_yolo2fl.analysis.report import write_report
from mmdet_yolo2fl.analysis.summary import image_names, summarize, write_tables
from tests.analysis.made import analyzed, found, random_scenes

EVIL = '<script>alert(1)</script>'
NAMES = (EVIL, '$\\frac$ & "co"', '_cow')
LOG = (
    [dict(lr=0.1 / n, loss=2.0 / n, loss_xy=1.0 / n, epoch=n, step=10 * n) for n in range(1, 5)],
    [{'coco/bbox_mAP': 0.1, 'step': 2}, {'coco/bbox_mAP': 0.2, 'step': 4}],
)


class Page(HTMLParser):
    """Tags with their attributes, and the text."""

    def __init__(self, html):
        super().__init__()
        self.tags, self.text, self.open = [], '', []
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in ('meta', 'img', 'br'):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data + ' '

    def all(self, tag):
        return [attributes for name, attributes in self.tags if name == tag]


def report(folder, images, predictions, classes=NAMES, log=([], []), shown=(), facts=None):
    """Write everything; the HTML and the summary."""
    evaluation = analyzed(images, predictions, classes)
    curves = class_curves(evaluation.matches)
    thresholds = best_thresholds(curves)
    names = [f'{EVIL}{i}.png' for i in range(len(images))]
    summary = summarize(evaluation, curves, thresholds, names)
    summary |= dict(voc_mode='area', threshold_text='the best threshold of each class')
    pictures = [
        picture(evaluation.matches, thresholds, i, str(path))
        | summary['per_image'][i]
        | dict(reason='missed')
        for i, path in shown
    ]
    write_tables(folder, summary, curves)
    facts = {'Run': EVIL, 'Config': 'a.py'} | (facts or {})
    write_report(folder / 'report.html', summary, facts, curves, log, pictures)
    return (folder / 'report.html').read_text(encoding='utf-8'), summary


@pytest.mark.parametrize(
    'flag, size', [('color', (50, 100)), ('color_ignore_orientation', (100, 50))]
)
def test_a_picture_lies_as_the_data_set_reads_it(tmp_path, flag, size):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new('RGB', (100, 50)).save(tmp_path / 'a.jpg', exif=exif)
    evaluation = analyzed([[(0, (0, 0, 9, 9))]], [found()])
    thresholds = best_thresholds(class_curves(evaluation.matches))
    shown = picture(evaluation.matches, thresholds, 0, str(tmp_path / 'a.jpg'), flag=flag)
    assert (shown['width'], shown['height']) == size


@pytest.mark.parametrize(
    'paths, names',
    [
        (['a/1.jpg', 'a/2.jpg'], ['1.jpg', '2.jpg']),
        (
            ['/x/cam1/1.jpg', '/x/cam2/1.jpg', '/x/cam2/2.jpg'],
            ['cam1/1.jpg', 'cam2/1.jpg', 'cam2/2.jpg'],
        ),
        (['a/1.jpg', 'a/1.jpg'], ['1.jpg', '1.jpg']),  # listed twice
        (['', ''], ['7', '8']),
        ([], []),
    ],
)
def test_names_tell_images_apart(paths, names):
    assert image_names(paths, [7, 8, 9]) == names


@pytest.fixture(scope='module')
def scenes(tmp_path_factory):
    """A report with everything in it, of names that are up to no good."""
    folder = tmp_path_factory.mktemp('report')
    image = folder / 'photo.png'
    cv2.imwrite(str(image), np.full((1000, 2000, 3), 200, np.uint8))
    shown = [(0, image), (1, folder / 'missing.png')]
    html, summary = report(folder, *random_scenes(1), log=LOG, shown=shown)
    return folder, html, summary


def test_is_self_contained_and_escaped(scenes):
    _, html, _ = scenes
    page = Page(html)
    assert not page.open, 'every tag is closed'
    assert '//' not in re.sub('base64,[^"]*', '', html), 'no address, not even by a namespace'
    assert not page.all('script') and not page.all('link') and not page.all('iframe')
    for attributes in page.all('img'):
        assert attributes['src'].startswith('data:image/') and attributes['alt']
    assert all(link['href'].startswith('#') for link in page.all('a'))
    anchors = {attributes.get('id') for _, attributes in page.tags}
    assert all(link['href'][1:] in anchors for link in page.all('a'))
    assert page.text.count(EVIL) > 5  # as text
    assert "default-src 'none'" in page.all('meta')[2]['content']


def test_figures_are_drawn(scenes):
    page = Page(scenes[1])
    prefix = 'data:image/svg+xml;base64,'
    svgs = [i['src'] for i in page.all('img') if i['src'].startswith(prefix)]
    titles = [i['alt'] for i in page.all('img')][: len(svgs)]
    assert [title.split(' over')[0] for title in titles] == [
        *('Losses', 'Learning rate', 'Validation', 'Precision', 'F1'),
    ]
    for svg in svgs:
        root = ElementTree.fromstring(base64.b64decode(svg.removeprefix(prefix)))
        assert len(list(root.iter('{http://www.w3.org/2000/svg}path'))) > 10


def test_what_lies_on_which_axis(monkeypatch):
    """The first box is right, the second wrong; one of two truths is missed."""
    boxes = [(20.0 * i, 0, 20.0 * i + 10, 10) for i in range(3)]
    images = [[(0, boxes[0]), (0, boxes[1])]]
    evaluation = analyzed(images, [found((0, 0.75, boxes[0]), (0, 0.5, boxes[2]))], ('cat',))
    monkeypatch.setattr(figures, '_svg', lambda figure: figure)
    drawn = figures.curve_figures(class_curves(evaluation.matches), ('cat',), 0.5)
    for (_, figure), names, x, y in zip(
        drawn,
        (('recall', 'precision'), ('threshold of the score', 'F1')),
        ((0.5, 0.5), (0.75, 0.5)),
        ((1, 0.5), (2 / 3, 0.5)),
    ):
        (axes,) = figure.axes
        curve, best = axes.lines
        assert (axes.get_xlabel(), axes.get_ylabel()) == names
        assert tuple(curve.get_xdata()) == x and curve.get_ydata() == pytest.approx(y)
        assert (best.get_xdata()[0], best.get_ydata()[0]) == pytest.approx((x[0], y[0]))


def test_pictures_have_their_boxes(scenes):
    _, html, summary = scenes
    page = Page(html)
    photos = [i['src'] for i in page.all('img') if i['src'].startswith('data:image/jpeg')]
    assert len(photos) == 2 and 'cannot be read (FileNotFoundError)' in html
    data = base64.b64decode(photos[0].removeprefix('data:image/jpeg;base64,'))
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    assert pixels.shape == (450, 900, 3)
    kinds = [rect['class'] for rect in page.all('rect')]
    images = summary['per_image'][:2]
    assert kinds.count('missed') == sum(image['missed'] for image in images) > 0
    assert kinds.count('false') == sum(image['false'] for image in images) > 0
    right = sum(image['found'] for image in images)
    assert kinds.count('right') == kinds.count('truth') == right > 0
    assert page.all('svg')[0]['viewbox'] == '0 0 2000 1000'


def test_tables_have_the_numbers_of_the_summary(scenes):
    folder, html, summary = scenes
    assert json.loads((folder / 'summary.json').read_text()) == summary
    with open(folder / 'classes.csv', newline='') as file:
        rows = list(csv.DictReader(file))
    assert [row['name'] for row in rows] == list(NAMES)
    for row, expected in zip(rows, summary['classes']):
        assert float(row['ap50']) == expected['ap50']
        assert f'<td>{100 * expected["ap50"]:.1f}</td>' in html
        assert int(row['missed']) == expected['missed']
        assert int(row['missed']) + int(row['found']) == expected['truths']
        assert float(row['ap medium']) == expected['ap_by_size']['medium']
    with open(folder / 'confusion_matrix.csv', newline='') as file:
        head, *matrix = csv.reader(file)
    assert head == ['true class', *NAMES, 'background']
    assert [list(map(int, row[1:])) for row in matrix] == summary['confusion']
    with open(folder / 'images.csv', newline='') as file:
        assert sum(int(row['false']) for row in csv.DictReader(file)) == (
            sum(row['false'] for row in summary['classes'])
        )
    with open(folder / 'curves.csv', newline='') as file:
        points = [row for row in csv.DictReader(file) if row['class'] == NAMES[0]]
    best = max(points, key=lambda row: float(row['f1']))
    assert float(best['thresholds']) == summary['classes'][0]['best_threshold']
    assert not list(folder.glob('*.tmp'))


def test_without_curves_images_truths_or_predictions(tmp_path):
    html, summary = report(tmp_path, [[], []], [found(), found()], ('cat',))
    page = Page(html)
    assert not page.open and not page.all('img') and 'id="training"' not in html
    assert summary['ap'] is None and summary['classes'][0]['best_threshold'] is None
    assert summary['confusion'] == [[0, 0], [0, 0]]
    assert 'nan' not in page.text.lower() and 'None' not in page.text
    assert 'no class with both' in page.text and 'No image with an error' in page.text
    assert (tmp_path / 'curves.csv').read_text() == 'class,thresholds,precision,recall,f1\n'


def test_only_losses(tmp_path):
    log = [dict(lr=0.1, loss=float('nan'), step=1), dict(lr=0.1, loss=1.0, step=2)], []
    html, _ = report(tmp_path, [[]], [found((0, 0.5, (0, 0, 5, 5)))], ('cat',), log)
    assert [i['alt'] for i in Page(html).all('img')] == (
        ['Losses over the iteration', 'Learning rate over the iteration']
    )


def test_many_classes(tmp_path):
    classes = [f'class {i}' for i in range(CURVES_IN_FIGURE + 1)]
    boxes = [(i, (0.0, 0.0, 10.0 + i, 10.0)) for i in range(len(classes))]
    predictions = [found(*((i, 0.5, box) for i, box in boxes))]
    html, _ = report(tmp_path, [boxes], predictions, classes)
    titles = [i['alt'] for i in Page(html).all('img')]
    assert len(titles) == 4 and titles[1] == f'Precision over recall: {classes[-1]}'


def test_what_no_browser_would_show(tmp_path, monkeypatch):
    monkeypatch.setattr('mmdet_yolo2fl.analysis.report.MAX_IN_MATRIX', 2)
    monkeypatch.setattr('mmdet_yolo2fl.analysis.report.MAX_CURVES', 1)
    box, other = (0.0, 0.0, 10.0, 10.0), (50.0, 50.0, 70.0, 60.0)
    # The last two are taken for one another; most boxes are of the first.
    truths = [[(0, box), (0, other)], [(1, box), (2, other)]]
    found_there = [found((0, 0.9, box), (0, 0.8, other)), found((2, 0.9, box), (1, 0.8, other))]
    html, _ = report(tmp_path, truths, found_there, ('cat', 'dog', 'cow'))
    page = Page(html)
    assert [i['alt'] for i in page.all('img')][0] == 'Precision over recall: cat'
    matrix = html.split('class="matrix"')[1].split('</table>')[0]
    assert 'dog' in matrix and 'cow' in matrix and 'cat' not in matrix
    assert matrix.count('<td') == 9 and 'The 2 of' in page.text and 'Of the 1 classes' in page.text


def test_in_a_browser(scenes, tab):
    """Nothing is broken or refused, all images are there, and nothing sticks out on a phone."""
    folder, _, _ = scenes
    said = []
    tab.on('console', lambda message: said.append(message.text))
    tab.on('pageerror', lambda error: said.append(str(error)))
    tab.set_viewport_size(dict(width=400, height=900))
    tab.goto((folder / 'report.html').as_uri())
    images = tab.evaluate(
        """Promise.all([...document.images].map(
            image => image.decode().then(() => image.naturalWidth, () => 0)))"""
    )
    assert len(images) == 7 and all(images)
    assert tab.locator('rect').count() > 5
    needed, width = tab.evaluate('[document.documentElement.scrollWidth, innerWidth]')
    assert needed <= width == 400
    tab.set_viewport_size(dict(width=1200, height=3000))
    pixels = cv2.imdecode(np.frombuffer(tab.screenshot(), np.uint8), cv2.IMREAD_COLOR).astype(int)
    assert pixels.shape == (3000, 1200, 3)
    assert len(np.unique(pixels @ (1, 256, 65536))) > 200
    assert not said
