"""From the folder of a training to the report, against tools/test.py."""

import json
import shutil

import numpy as np
import pytest
import torch
from mmdet.registry import DATASETS
from mmengine.config import Config
from mmengine.registry import DefaultScope

from mmdet_yolo2fl.analysis.evaluation import evaluate, mean
from mmdet_yolo2fl.analysis.predictions import flatten, read_predictions
from mmdet_yolo2fl.analysis.truths import load_truths
from tests.test_checkpoints import Hostile


@pytest.fixture
def run(squares, tmp_path):
    """A work directory as MMEngine's runner leaves it."""
    config, weights = squares
    folder = tmp_path / 'run'
    (folder / '20260101_000000/vis_data').mkdir(parents=True)
    shutil.copy(config, folder / 'squares.py')
    shutil.copy(weights, folder / 'epoch_1.pth')
    (folder / 'last_checkpoint').write_text(str(folder / 'epoch_1.pth'))
    rows = [dict(lr=0.1, loss=2.0, epoch=1, iter=1, step=1), {'coco/bbox_mAP': 0.1, 'step': 1}]
    (folder / '20260101_000000/vis_data/scalars.json').write_text('\n'.join(map(json.dumps, rows)))
    return folder


@pytest.fixture
def main(tool):
    main = tool('analyze')
    return lambda *args: main([*map(str, args), '--device', 'cpu'])


def dataset_of(run):
    with DefaultScope.overwrite_default_scope('mmdet'):
        return DATASETS.build(Config.fromfile(run / 'squares.py').test_dataloader.dataset)


def make_true(data_root, predictions, every=2):
    """Turn some of the predictions into the truth, so that there is something to count."""
    path = data_root / 'valid.json'
    content = json.loads(path.read_text())
    content['annotations'] = []
    for image, entry in zip(content['images'], predictions):
        found = entry['pred_instances']
        boxes = found['bboxes'].double().numpy()
        for box, label in list(zip(boxes, found['labels'].tolist()))[::every]:
            x1, y1, x2, y2 = box.round().tolist()
            content['annotations'].append(
                dict(
                    id=len(content['annotations']) + 1,
                    image_id=image['id'],
                    category_id=1 + label,
                    bbox=[x1, y1, x2 - x1 + 1, y2 - y1 + 1],
                    area=(x2 - x1 + 1) * (y2 - y1 + 1),
                    iscrowd=0,
                )
            )
    path.write_text(json.dumps(content))


def test_a_run_as_tools_test_sees_it(run, data_root, main, tool, tmp_path, monkeypatch, capsys):
    summary = main(run)
    out = run / 'analysis'
    assert {path.suffix for path in out.iterdir()} == {'.html', '.json', '.csv', '.pkl'}
    html = (out / 'report.html').read_text()
    assert str(run / 'epoch_1.pth') in html and 'Losses over the iteration' in html
    assert 'Validation over the epoch' in html and '4.png' in html
    (kept,) = out.glob('predictions_test_*.pkl')
    make_true(data_root, read_predictions(kept))

    # No second inference.
    monkeypatch.setattr('mmdet_yolo2fl.detector.load_detector', None)
    args = [str(run), '--device', 'cpu', '--score-thr', '0.2', '--num-images', '2']
    summary = tool('analyze')([*args, '--iou-thr', '0.4', '--out', str(out)])
    assert f'Predictions of an earlier call: {kept}' in capsys.readouterr().out
    metrics = tool('test')(
        [str(run / 'squares.py'), str(run / 'epoch_1.pth'), '--work-dir', str(tmp_path / 'work')]
        + ['--out', str(tmp_path / 'found.pkl'), '--cfg-options', 'test_evaluator.classwise=True']
    )
    assert round(summary['ap'], 3) == metrics['coco/bbox_mAP'] > 0.1
    assert round(summary['ap50'], 3) == metrics['coco/bbox_mAP_50']
    for row in summary['classes']:
        precision = metrics[f'coco/{row["name"]}_precision']
        assert precision == pytest.approx(round(row['ap'] or np.nan, 3), nan_ok=True)
    assert len(summary['worst']) == 2 and summary['iou_thr'] == 0.4
    assert {row['threshold'] for row in summary['classes']} == {0.2}

    # The same from the file of tools/test.py, without any checkpoint.
    config = ['--config', str(run / 'squares.py'), '--iou-thr', '0.4', '--out', str(tmp_path / 'b')]
    other = tool('analyze')([*config, '--predictions', str(tmp_path / 'found.pkl')])
    assert (other['ap'], other['ap50']) == (summary['ap'], summary['ap50'])
    assert [row['f1'] for row in other['classes']] == [row['f1'] for row in summary['classes']]
    assert 'id="training"' not in (tmp_path / 'b/report.html').read_text()

    # As the config's metric counts: only the best box of each class, VOC's way.
    again = [*config, '--predictions', str(tmp_path / 'found.pkl'), '--cfg-options']
    fewer = tool('analyze')([*again, 'test_evaluator.proposal_nums="(1,1,1)"'])
    truths = load_truths(dataset_of(run))
    found = flatten(read_predictions(tmp_path / 'found.pkl'), truths.ids, len(truths.classes))
    assert fewer['ap'] == mean(evaluate(truths, found, max_dets=(1, 1, 1)).ap) < other['ap']
    voc = 'test_evaluator._delete_=True', 'test_evaluator.type=mmdet.VOCMetric'
    for options, mode in (((), '11points'), (('test_evaluator.eval_mode=area',), 'area')):
        summary = tool('analyze')([*again, *voc, *options])
        assert summary['voc_mode'] == mode
        assert summary['voc_ap50'] == mean(evaluate(truths, found, voc_mode=mode).voc_ap50)


def test_config_and_checkpoint_and_the_other_split(squares, main, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config, weights = squares
    summary = main(
        *('--config', config, '--checkpoint', weights, '--split', 'val', '--cfg-options'),
        *('val_dataloader.dataset.indices=3', 'test_dataloader=None'),
    )
    assert summary['images'] == 3
    assert list((tmp_path / 'work_dirs/squares/analysis').glob('predictions_val_*.pkl'))


def test_several_runs_are_compared(run, main, tmp_path, monkeypatch, capsys):
    study = tmp_path / 'study'
    for seed in (1, 2):
        shutil.copytree(run, study / f'row/seed_{seed}')
    summaries = main(study, '--num-images', '1')
    assert list(summaries) == [study / 'row/seed_1', study / 'row/seed_2']
    assert all((folder / 'analysis/report.html').is_file() for folder in summaries)
    one, other = (summary['classes'] for summary in summaries.values())
    assert one == other
    text = (study / 'analysis/errors.md').read_text()
    assert f'| {one[0]["name"]} | row | 2 | ' in text and text in capsys.readouterr().out
    # Two trainings by name; what is broken is named, and the others are compared.
    monkeypatch.chdir(tmp_path)
    (study / 'row/seed_1/squares.py').write_text('x = 1 / 0')
    (study / 'row/seed_2/epoch_1.pth').write_bytes(b'cut')
    with pytest.raises(SystemExit, match='Left out: .*seed_1, .*seed_2'):
        main(run, study)
    assert 'ZeroDivisionError' in capsys.readouterr().err
    lines = (tmp_path / 'work_dirs/compared/errors.csv').read_text().splitlines()
    assert len(lines) == 1 + len(one) and lines[1].startswith('run,,')


def test_a_run_of_a_study_is_looked_at_where_its_figures_are_from(run, main):
    assert '(test)' in main(run)['facts']['Data set']
    (run / 'config_hash').touch()
    assert '(val)' in main(run)['facts']['Data set']
    (run / 'result.json').write_text(json.dumps(dict(row='a', checkpoint_digest='of others')))
    assert '(test)' in main(run, '--checkpoint', run / 'epoch_1.pth')['facts']['Data set']
    (run / 'result.json').unlink()
    assert '(test)' in main(run, '--split', 'test')['facts']['Data set']


def test_usage_errors(run, tool, refused, tmp_path, monkeypatch):
    main = tool('analyze')
    assert 'name the folder of a training' in refused(main)
    assert '--config and --checkpoint' in refused(main, '--config', run / 'squares.py')
    assert '--score-thr' in refused(main, run, '--score-thr', '2')
    assert '--iou-thr' in refused(main, run, '--iou-thr', '0.05')
    assert '--num-images' in refused(main, run, '--num-images', '-1')
    assert 'no such folder' in refused(main, tmp_path / 'nowhere')
    (tmp_path / 'empty').mkdir()
    assert 'is empty' in refused(main, tmp_path / 'empty')
    shutil.copytree(run, tmp_path / 'other')
    assert '--checkpoint is of one run, not of 2' in refused(
        main, run, tmp_path / 'other', '--checkpoint', run / 'epoch_1.pth'
    )
    assert 'none of the runs' in refused(
        main, run, tmp_path / 'other', '--cfg-options', 'test_dataloader=None'
    )
    assert 'has no val_dataloader' in refused(
        main, run, '--split', 'val', '--cfg-options', 'val_dataloader=None'
    )
    assert 'data_root' in refused(
        main, run, '--cfg-options', 'test_dataloader.dataset.ann_file=gone.json'
    )
    with monkeypatch.context() as patch:  # before the inference
        patch.setitem(main.__globals__, 'predict', None)
        out = run / 'squares.py' / 'out'
        assert 'Not a directory' in refused(main, run, '--device', 'cpu', '--out', out)
    torch.save(dict(state_dict={}, meta=Hostile(tmp_path / 'mark')), run / 'epoch_1.pth')
    assert 'untrusted pickle' in refused(main, run)
    assert not (tmp_path / 'mark').exists()
    (run / 'epoch_1.pth').unlink()
    assert 'interrupted before its first one' in refused(main, run)
