"""tools/compare_studies.py: rows of several tables, each against its own baseline."""

import csv
import io
import re
from pathlib import Path

import pytest
from scipy import stats

from mmdet_yolo2fl.study_comparisons import as_markdown, compare, draw, read_comparisons

ROOT = Path(__file__).parents[2]
HEAD = 'row,seed,minutes,images,parameters,precision,AP50,AP'


@pytest.fixture
def tables(tmp_path):
    """Two studies, and a list of two comparisons."""
    for name, lines in dict(
        cells=['ce,0,1,10,1,float32,.5,.3', 'ce,1,1,10,1,float32,.6,.3',
               'fl,1,1,10,1,float32,.7,.2', 'fl,0,1,10,1,bfloat16,.8,.2'],
        streets=['plain,4,1,10,1,,.5,.4', 'focal,4,1,10,1,,.4,.45'],
    ).items():  # fmt: skip
        (tmp_path / f'{name}.csv').write_text('\n'.join([HEAD, *lines]) + '\n')
    listed = tmp_path / 'lists' / 'mine.csv'
    listed.parent.mkdir()
    listed.write_text(
        'loss,data,table,row,baseline\n'
        'focal,`cells`|1,../cells.csv,fl,ce\n'
        'focal,streets,../streets.csv,focal,plain\n'
    )
    return listed


def test_differences_of_pairs(tool, tables, tmp_path, capsys):
    tool('compare_studies')([str(tables), '--out', str(tmp_path / 'new')])
    assert capsys.readouterr().out.splitlines() == [
        '| loss | data | seeds | AP50 | AP |',
        '|---|---|---|---|---|',
        # +30 and +10 points: a deviation of 10 * sqrt(2), and Student's 12.706 of two pairs.
        '| focal | `cells`&#124;1 | 2 | +20.0 (-107.1 to +147.1) | -10.0 |',
        '| focal | streets | 1 | -10.0 | +5.0 |',
        '',
        'cells.csv against ce: Not trained alike: fl, seed 0 bfloat16 against float32.',
    ]
    assert (tmp_path / 'new/mine.md').read_text().startswith('| loss |')
    assert (tmp_path / 'new/mine.png').stat().st_size > 5_000
    assert not list(tables.parent.glob('*.md'))
    tool('compare_studies')([str(tables), '--metrics', 'AP'])
    assert (tables.parent / 'mine.md').read_text().splitlines()[0] == '| loss | data | seeds | AP |'


def test_rows_name_themselves_and_spreadsheets_are_read(tables):
    text = 'table,row,baseline\n../cells.csv,ce,fl\n'
    tables.write_text(text, encoding='utf-8-sig')  # as spreadsheets begin
    found = compare(read_comparisons(tables), ['AP50'])
    assert as_markdown(found).splitlines()[2] == '| ce | fl | 2 | -20.0 (-147.1 to +107.1) |'


def test_the_picture_colours_what_is_shown(tables):
    found = compare(read_comparisons(tables))
    gain = dict(pairs=[0.01, 0.03], difference=0.02, low=0.01, high=0.03, one=100)
    loss = dict(pairs=[-0.01, -0.03], difference=-0.02, low=-0.03, high=-0.01, one=100)
    found[0]['metrics']['AP50'] = gain
    found[0]['metrics']['AP'] = loss
    ap50, ap = draw(found).axes
    assert [ap50.containers[0].lines[0].get_color(), ap.containers[0].lines[0].get_color()] == [
        'tab:blue',
        'tab:red',
    ]
    for axis, mean in ((ap50, 2), (ap, -2)):
        (point, _, (bar,)) = axis.containers[0].lines
        assert point.get_xdata() == pytest.approx([mean])
        assert sorted(bar.get_segments()[0][:, 0]) == pytest.approx([mean - 1, mean + 1])
        # One pair has no interval, so nothing is shown.
        assert axis.containers[1].lines[0].get_color() == 'tab:grey'
    names = [label.get_text() for label in ap50.get_yticklabels()]
    assert names == ['loss   data   ', 'focal  cells|1', 'focal  streets']


def test_one_scale_for_all(tables):
    """A metric above 1 in one of them, and names that Matplotlib would take for formulas."""
    streets = tables.parents[1] / 'streets.csv'
    streets.write_text(streets.read_text().replace('.4,.45', '40,.45'))
    tables.write_text(
        tables.read_text().replace('streets,', r'C:\data$,').replace('`cells`|1', 'a$')
    )
    found = compare(read_comparisons(tables))
    lines = as_markdown(found).splitlines()[2:]
    assert lines[0].split(' | ')[3].startswith('+0.2 (')
    assert lines[1].split(' | ')[3:] == ['+39.5', '+5.0 |']
    figure = draw(found)
    figure.savefig(io.BytesIO())
    assert not any(label.get_parse_math() for label in figure.axes[0].get_yticklabels())


@pytest.mark.parametrize(
    'text, told',
    [
        ('loss,table,row\n', "no column ['baseline']; it has ['loss', 'table', 'row']"),
        ('table,row,baseline\n', 'lists no comparison'),
        ('loss,table,row,baseline\nfocal,../cells.csv,fl\n', 'line 2: expected a text for each'),
        ('loss,table,row,baseline\n,../cells.csv,fl,ce\n', 'line 2: expected a text for each'),
        ('table,row,baseline\n../cells.csv,fl,ce,x\n', 'line 2: expected a text for each'),
        ('table,row,baseline\n../none.csv,fl,ce\n', 'none.csv'),
        ('table,row,baseline\n../cells.csv,fl,focal\n', "no row ['focal']; it has ['ce', 'fl']"),
        ('table,row,baseline\n../cells.csv,fl,fl\n', 'compared with itself'),
        ('table,row,baseline\n../other.csv,b,a\n', "'b' and 'a' have no seed in common"),
        ('table,row,baseline\n../broken.csv,b,a\n', 'broken.csv: no table of comma-separated'),
    ],
)
def test_bad_lists(tool, refused, tables, text, told):
    folder = tables.parents[1]
    (folder / 'other.csv').write_text(f'{HEAD}\na,0,1,1,1,,.5,.5\nb,1,1,1,1,,.5,.5\n')
    (folder / 'broken.csv').write_bytes(b'\x89PNG\r\n\x1a\n')
    tables.write_text(text)
    assert told in refused(tool('compare_studies'), tables)
    assert [path.name for path in tables.parent.iterdir()] == ['mine.csv']


def test_metrics_that_not_every_table_has(tool, refused, tables):
    cells = tables.parents[1] / 'cells.csv'
    cells.write_text(cells.read_text().replace('AP50', 'AP75'))
    assert "has ['AP50']; all have ['AP']" in refused(
        tool('compare_studies'), tables, '--metrics', 'AP50'
    )


def test_the_summary_of_the_results_is_what_the_tables_say():
    """Each difference again, by SciPy's paired test; and the page shows this table."""
    listed = ROOT / 'docs/results/focal_or_not.csv'
    text = as_markdown(compare(read_comparisons(listed)))
    written = listed.with_suffix('.md').read_text()
    assert written.startswith(text + '\n')  # and what was not trained alike
    assert written in (ROOT / 'docs/results.md').read_text()
    with open(listed, newline='') as stream:
        comparisons = list(csv.DictReader(stream))
    for line, row in zip(text.splitlines()[2:], comparisons, strict=True):
        with open(listed.parent / row['table'], newline='') as stream:
            runs = list(csv.DictReader(stream))
        *_, ap50, ap = line.strip('| ').split(' | ')
        for shown, metric in ((ap50, 'AP50'), (ap, 'AP')):
            ours, theirs = (
                [float(run[metric]) for run in sorted(runs, key=lambda one: int(one['seed']))
                 if run['row'] == row[which]]
                for which in ('row', 'baseline')
            )  # fmt: skip
            test = stats.ttest_rel(ours, theirs)
            low, high = test.confidence_interval(0.95)
            mean = sum(ours) / len(ours) - sum(theirs) / len(theirs)
            # (0.85 may be rounded up or down.)
            expected = pytest.approx([100 * mean, 100 * low, 100 * high], abs=0.0501)
            assert [float(number) for number in re.findall(r'[-+][\d.]+', shown)] == expected
