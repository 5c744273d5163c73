import json
import math
import shutil
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import MagicMock

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from mmengine.config import Config
from mmengine.hub import get_config
from mmengine.logging import MessageHub
from mmengine.registry import PARAM_SCHEDULERS
from scipy import stats

from mmdet_yolo2fl import study, study_budget
from mmdet_yolo2fl.study import (
    _is_absent,
    _set_aside_other_configs,
    carry_out,
    digest,
    learning_curve,
    load_study,
)
from mmdet_yolo2fl.study_budget import with_epochs, within_budget
from mmdet_yolo2fl.study_figure import draw, write_report
from mmdet_yolo2fl.study_tables import (
    markdown,
    read_csv,
    read_curves,
    results_by_hash,
    summarize,
    unlike_pairs,
    write_csv,
    write_curves,
)

ROOT = Path(__file__).parents[1]
BASE = ROOT / 'configs/yolov2_fl.py'
FEW = dict(num_images=3)
VOC = dict(_delete_=True, type='VOCMetric', metric='mAP')
AFTER_EIGHT = dict(accumulative_counts=8)


def write_study(folder, **changes):
    content = dict(
        config=str(BASE),
        seeds=[0, 1],
        baseline='plain',
        rows=dict(plain=dict(model=dict(bbox_head=dict(prior_prob=0.1))), focal={}),
    )
    content |= changes
    file = folder / 'trial.py'
    file.write_text('\n'.join(f'{key} = {value!r}' for key, value in content.items()))
    return file


def result(row, seed, ap50, ap=0.1, minutes=2.0):
    curve = [dict(epoch=1, **{'coco/bbox_mAP_50': ap50 / 2}), dict(epoch=2)]
    return dict(
        row=row,
        seed=seed,
        metrics={'AP50': ap50, 'AP': ap, 'AP50 car': ap50, 'coco/bbox_mAP': ap},
        curve=curve,
        minutes=minutes,
        images=100,
        parameters=7,
        machine='a machine, 1 thread',
        precision='float32',
        config_hash=f'{row} {seed}',
    )


def test_runs_by_seed_with_their_changes(tmp_path):
    study = load_study(write_study(tmp_path), tmp_path / 'out', {'train_cfg.max_epochs': 1})
    names = [(run.row, run.seed) for run in study.runs]
    assert names == [('plain', 0), ('focal', 0), ('plain', 1), ('focal', 1)]
    plain, focal, other_seed, _ = study.runs
    assert plain.config.model.bbox_head.prior_prob == 0.1
    assert focal.config.model == Config.fromfile(BASE).model
    assert plain.config.randomness.seed == 0 and other_seed.config.randomness.seed == 1
    assert plain.folder == tmp_path / 'out/plain/seed_0'
    assert len({run.hash for run in study.runs}) == 4
    options = {'randomness.deterministic': True}
    (run, *_) = load_study(write_study(tmp_path), tmp_path / 'out', options).runs
    assert run.config.randomness == dict(seed=0, deterministic=True)
    # Moved to another folder, a run stays what it was.
    moved = load_study(write_study(tmp_path), tmp_path / 'elsewhere', {'train_cfg.max_epochs': 1})
    assert [run.hash for run in moved.runs] == [run.hash for run in study.runs]


def test_seeds_of_a_row_differ_in_the_seed_alone(tmp_path):
    loss = dict(_delete_=True, type='MSELoss', loss_weight=0.5)
    rows = dict(squared=dict(model=dict(bbox_head=dict(loss_obj=loss))))
    study = load_study(write_study(tmp_path, rows=rows, baseline='squared'), tmp_path)
    first, second = (run.config.to_dict() for run in study.runs)
    for config in (first, second):
        for key in ('randomness', 'work_dir', 'val_evaluator', 'test_evaluator'):
            config.pop(key)
    assert first == second
    assert first['model']['bbox_head']['loss_obj'] == dict(type='MSELoss', loss_weight=0.5)


def test_a_config_that_a_resumed_training_has_dumped(tmp_path):
    """What it went on from is no start for others, unless a row says so."""
    dumped = tmp_path / 'dumped.py'
    dumped.write_text(f"_base_ = {str(BASE)!r}\nresume = True\nload_from = 'epoch_3.pth'\n")
    rows = dict(plain={}, tuned=dict(load_from='other.pth'))
    study = load_study(write_study(tmp_path, config=str(dumped), rows=rows), tmp_path / 'out')
    assert [run.config.load_from for run in study.runs] == [None, 'other.pth', None, 'other.pth']


def test_a_checkpoint_of_each_seed(tmp_path):
    rows = dict(plain=dict(), views=dict(tta=True), other=dict(checkpoint='b.pth'))
    file = write_study(tmp_path, rows=rows, checkpoint='runs/{seed}/a.pth')
    runs = load_study(file, tmp_path / 'out').runs
    assert [str(run.checkpoint_file.relative_to(tmp_path)) for run in runs] == [
        *('runs/0/a.pth', 'runs/0/a.pth', 'b.pth'),
        *('runs/1/a.pth', 'runs/1/a.pth'),  # another seed of b.pth would be no other training
    ]
    assert [run.config.model.type for run in runs[:3]] == [
        *('SingleStageDetector', 'DetTTAModel', 'SingleStageDetector'),
    ]
    assert len({run.hash for run in runs}) == 5
    # Only that of the test is wrapped; and the same study elsewhere has the same hashes.
    assert runs[1].config.val_dataloader == runs[0].config.val_dataloader
    (tmp_path / 'elsewhere').mkdir()
    moved = write_study(tmp_path / 'elsewhere', rows=rows, checkpoint='runs/{seed}/a.pth')
    assert [run.hash for run in load_study(moved, tmp_path).runs] == [run.hash for run in runs]


def test_a_checkpoint_beside_trainings(tmp_path):
    """On the same images."""
    rows = dict(plain={}, old=dict(checkpoint='a.pth', tta=True))
    trained, old, *_ = load_study(write_study(tmp_path, rows=rows), tmp_path).runs
    assert not trained.checkpoint and old.checkpoint == 'a.pth'


def test_checkpoints_elsewhere(tmp_path, monkeypatch):
    monkeypatch.setenv('HOME', str(tmp_path))
    address = 'https://example.org/a_{seed}.pth'
    rows = dict(public=dict(checkpoint=address), home=dict(checkpoint='~/a.pth'))
    public, home, *_ = load_study(write_study(tmp_path, rows=rows, baseline=None), tmp_path).runs
    assert public.checkpoint == 'https://example.org/a_0.pth' and public.checkpoint_file is None
    assert not public.is_of_other_weights(dict(checkpoint_digest='of_whatever'))
    assert home.checkpoint_file == tmp_path / 'a.pth'


def test_a_result_counts_for_its_own_config_only(tmp_path):
    run = load_study(write_study(tmp_path), tmp_path / 'out').runs[0]
    assert run.result is None
    run.folder.mkdir(parents=True)
    (run.folder / 'result.json').write_text(json.dumps(dict(config_hash=run.hash)))
    assert run.result == dict(config_hash=run.hash)
    changed = write_study(tmp_path, budget=dict(images=10))
    assert load_study(changed, tmp_path / 'out').runs[0].result is None


@pytest.mark.parametrize(
    'budget, epochs', [(dict(minutes=2), 6), (dict(minutes=0.2), 1), (dict(images=50), 5)]
)
def test_epochs_that_a_budget_buys(tmp_path, monkeypatch, budget, epochs):
    run = load_study(write_study(tmp_path, budget=budget), tmp_path).runs[0]
    config = run.config
    config.train_dataloader.update(batch_size=4)
    config.train_dataloader.dataset.update(num_images=10)  # three iterations
    monkeypatch.setattr(study_budget, '_seconds_an_iteration', lambda *_: 7.0)
    assert within_budget(config, budget, tmp_path).train_cfg.max_epochs == epochs
    # A resumed run does not measure again.
    monkeypatch.setattr(study_budget, '_seconds_an_iteration', lambda *_: 1e9)
    assert within_budget(config, budget, tmp_path).train_cfg.max_epochs == epochs


@pytest.mark.parametrize('budget', [dict(images=4), dict(minutes=0.1)])
def test_a_budget_of_less_than_an_epoch(tmp_path, monkeypatch, budget):
    """One epoch would be another budget than that of the other rows."""
    config = load_study(write_study(tmp_path), tmp_path).runs[0].config
    config.train_dataloader.update(batch_size=4)
    config.train_dataloader.dataset.update(num_images=10)
    monkeypatch.setattr(study_budget, '_seconds_an_iteration', lambda *_: 7.0)
    with pytest.raises(ValueError, match='buys 0.[0-9]+ epochs of 10 images'):
        within_budget(config, budget, tmp_path)
    assert not (tmp_path / 'epochs').exists()


@pytest.mark.parametrize(
    'changes, message',
    [
        (dict(rows={}), 'rows'),
        (dict(baseline='none'), "baseline 'none'"),
        (dict(budget=dict(hours=1)), 'budget'),
        (dict(repeats=3), "unknown.*'repeats'"),
        (dict(config='nowhere.py'), "row 'plain' has no config file.*nowhere.py"),
        (dict(config=None), "neither the study nor the row 'plain'"),
        (dict(rows=dict(plain=dict(tta=True))), "row 'plain' has `tta`, but no `checkpoint`"),
        (dict(rows=dict(plain=None)), "row 'plain' must be a dict"),
        (dict(seeds=3), 'seeds must be a list, got 3'),
        (
            dict(rows=dict(plain=dict(checkpoint='https://a/{seed}/b.pth'))),
            'https://a/0/b.pth and https://a/1/b.pth would be downloaded to one file b.pth',
        ),
        (
            dict(rows=dict(plain=dict(checkpoint='https://a/b.pth?of={seed}'))),
            'https://a/b.pth.of=0 and https://a/b.pth.of=1 would be downloaded to one file b.pth',
        ),
        (
            dict(rows={n: dict(load_from=f'https://{n}/b.pth') for n in ('plain', 'other')}),
            'https://plain/b.pth and https://other/b.pth would be downloaded to one file b.pth',
        ),
        (dict(seeds=['0', '1']), "seeds must be whole numbers, got .'0', '1'"),
        (
            dict(
                rows=dict(
                    plain={},
                    old=dict(checkpoint='a.pth', test_dataloader=dict(dataset=dict(num_images=3))),
                )
            ),
            "'plain' is evaluated on the val set .* 'old' on the test set of its own",
        ),
        *(
            (
                dict(
                    rows=dict(plain={}, few={f'{split}_dataloader': dict(dataset=FEW)}),
                    **extra,
                ),
                f"'plain' is evaluated on the {split} set .* 'few' on the {split} set of its own",
            )
            for split, extra in (('val', {}), ('test', dict(checkpoint='a.pth')))
        ),
        (
            dict(rows=dict(plain={}, voc=dict(val_evaluator=VOC | dict(eval_mode='area')))),
            "'plain' is evaluated by .'CocoMetric'., and the row 'voc' by .'VOCMetric area'.",
        ),
        (dict(rows=dict(plain=dict(modle={}))), "row 'plain', .* sets 'modle', which neither"),
        (dict(rows=dict(plain=dict(bbox_head={}))), "row 'plain', .* sets 'bbox_head'"),
        (dict(rows=dict(plain=dict(budget=dict(images=9)))), "row 'plain', .* sets 'budget'"),
        (dict(rows=dict(plain=dict(seed=[5]))), "row 'plain', .* sets 'seed'"),
        (dict(rows=dict(plain=dict(max_epochs=9))), "sets 'max_epochs', a variable of .*yolov2_fl"),
        (dict(rows=dict(plain=dict(train_pipeline=[]))), "sets 'train_pipeline', a variable of"),
        (
            dict(rows=dict(plain=dict(checkpoint='a.pth', seeds=[0, 1]))),
            "row 'plain' has several seeds and one checkpoint",
        ),
        (dict(rows={'plain': {}, 'plain +': {}}), "'plain \\+', seed 0,.* of the row 'plain'"),
        (dict(rows={'plain': {}, '+': {}}), "the row '\\+', seed 0, would have the folder"),
        (dict(rows={'plain': {}, 'Plain': {}}), "folder .* of the row 'plain'"),
        (dict(seeds=[1, 1]), r"the row 'plain' has a seed twice: \[1, 1\]"),
        (dict(rows=dict(plain=dict(val_evaluator=5))), "row 'plain' changes what .*yolov2_fl"),
        (dict(rows=dict(plain=dict(val_evaluator=None))), "row 'plain' .*it has no val_evaluator"),
        (
            dict(rows=dict(plain=dict(test_dataloader=None)), checkpoint='a.pth'),
            "row 'plain' .*it has no test_dataloader",
        ),
        (
            dict(
                budget=dict(images=5),
                rows=dict(plain=dict(train_cfg=dict(_delete_=True, by_epoch=False, max_iters=5))),
            ),
            "the config of the row 'plain' counts iterations",
        ),
    ],
)
def test_bad_studies(tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        load_study(write_study(tmp_path, **changes), tmp_path)


def test_each_evaluator_is_its_own(tmp_path):
    nothing = dict(test_dataloader=None, test_evaluator=None, test_cfg=None)
    rows = dict(
        plain=dict(),
        few=dict(test_evaluator=dict(proposal_nums=(1, 10, 100))),
        voc=dict(test_evaluator=VOC),
        two=dict(test_evaluator=[dict(type='CocoMetric'), dict(type='VOCMetric')]),
        only_val=nothing,
    )
    runs = {
        run.row: run for run in load_study(write_study(tmp_path, rows=rows, seeds=[0]), '.').runs
    }
    only_val_voc = dict(plain=dict(nothing, val_evaluator=VOC))
    (run,) = load_study(write_study(tmp_path, rows=only_val_voc, seeds=[0]), '.').runs
    assert len({run.hash for run in (run, *runs.values())}) == len(rows) + 1
    config = runs['few'].config
    assert config.test_evaluator.proposal_nums == (1, 10, 100)
    assert config.test_evaluator.outfile_prefix == config.val_evaluator.outfile_prefix
    assert 'proposal_nums' not in config.val_evaluator
    # CocoMetric with an annotation file of its own, too: AP50 by class.
    own = dict(val_evaluator=dict(_delete_=True, type='CocoMetric', ann_file='a.json'))
    (run,) = load_study(write_study(tmp_path, rows=dict(plain=own), seeds=[0]), '.').runs
    assert run.config.val_evaluator.outfile_prefix.endswith('detections')
    assert runs['voc'].config.test_evaluator == dict(type='VOCMetric', metric='mAP')
    assert 'outfile_prefix' in runs['two'].config.test_evaluator[0]
    assert runs['only_val'].config.test_evaluator is None
    # For a study of checkpoints the validation set is not needed.
    rows = dict(plain=dict(val_dataloader=None, val_evaluator=None, val_cfg=None))
    (run,) = load_study(write_study(tmp_path, rows=rows, seeds=[0], checkpoint='a.pth'), '.').runs
    assert 'outfile_prefix' in run.config.test_evaluator


@pytest.mark.parametrize('killed', [False, True])
@pytest.mark.parametrize('predict_on', ['teacher', 'student'])
def test_a_teacher_and_its_student(tmp_path, monkeypatch, predict_on, killed):
    """MMDetection evaluates both, and writes the detections of the second over the first's."""
    row = dict(
        val_cfg=dict(_delete_=True, type='TeacherStudentValLoop'),
        model=dict(semi_test_cfg=dict(predict_on=predict_on)),
    )
    (run,) = load_study(
        write_study(tmp_path, rows=dict(plain=row), seeds=[0]), tmp_path / 'out'
    ).runs
    run.folder.mkdir(parents=True)
    (run.folder / 'detections.bbox.json').write_text('[]')
    metrics = {'teacher/coco/bbox_mAP_50': 0.6, 'student/coco/bbox_mAP_50': 0.4}
    points = [] if killed else [dict(epoch=2, **metrics)]
    monkeypatch.setattr('mmdet_yolo2fl.study.learning_curve', lambda folder: points)
    runner = MagicMock(epoch=2, max_epochs=10)  # a hook has stopped it
    runner.train_dataloader.dataset.__len__.return_value = 7
    other = 'student' if predict_on == 'teacher' else 'teacher'
    # MMDetection's loop tells its hooks, and returns nothing.
    hooks = runner.register_hook.call_args_list

    def evaluate():
        hooks[0].args[0].after_val_epoch(runner, metrics)
        points.append(dict(epoch=2, **metrics))

    runner.val_loop.run.side_effect = evaluate
    monkeypatch.setattr('mmdet_yolo2fl.study.Runner.from_cfg', lambda config: runner)
    monkeypatch.setattr('mmdet_yolo2fl.study.precision', lambda wrapper: 'float32')
    monkeypatch.setattr('mmdet_yolo2fl.study.check_annotations', lambda *_, **__: None)
    found = carry_out(run)
    expected = 0.6 if predict_on == 'teacher' else 0.4
    assert found['metrics']['AP50'] == expected
    write_csv(tmp_path / 'a.csv', [result('plain', 0, 0.5) | dict(metrics=found['metrics'])])
    assert read_csv(tmp_path / 'a.csv')[0]['metrics'] == metrics | dict(AP50=expected)
    write_curves(tmp_path / 'c.csv', [found])
    assert read_curves(tmp_path / 'c.csv') == {'plain': {0: [(2, expected)]}}
    assert found['images'] == 2 * len(runner.train_dataloader.dataset)
    if not killed:
        # Where it finds nothing, MMDetection's metric is silent.
        points[0] = dict(epoch=2, **{f'{other}/coco/bbox_mAP_50': 0.5})
        (run.folder / 'result.json').unlink()
        assert carry_out(run)['metrics']['AP50'] == 0.0


@pytest.mark.parametrize(
    'evaluator, metrics', [('CocoMetric', dict(AP50=0.0, AP=0.0)), ('VOCMetric', {})]
)
def test_where_nothing_is_found_the_precision_is_0(tmp_path, monkeypatch, evaluator, metrics):
    rows = dict(plain=dict(val_evaluator=dict(_delete_=True, type=evaluator, ann_file='a.json')))
    (run,) = load_study(write_study(tmp_path, rows=rows, seeds=[0]), tmp_path).runs
    trained = dict(metrics={}, curve=[], minutes=1.0, images=3, parameters=5, precision='float32')
    monkeypatch.setattr('mmdet_yolo2fl.study._train', lambda run: trained)
    assert carry_out(run)['metrics'] == metrics


def test_a_table_counts_for_its_own_weights_only(tmp_path):
    checkpoint = tmp_path / 'a.pth'
    checkpoint.write_bytes(b'weights')
    (run,) = load_study(
        write_study(tmp_path, checkpoint='a.pth', seeds=[0], rows=dict(plain={})), '.'
    ).runs
    for known in ({}, dict(checkpoint_digest=digest(checkpoint))):
        write_csv(tmp_path / 'a.csv', [result('plain', 0, 0.5) | known])
        (line,) = read_csv(tmp_path / 'a.csv')
        assert line['checkpoint_digest'] == known.get('checkpoint_digest', '')
        assert not run.is_of_other_weights(line)
    head = (tmp_path / 'a.csv').read_text().splitlines()[0]
    assert head.startswith('row,seed,minutes,images,parameters,machine,precision,config_hash,check')
    checkpoint.write_bytes(b'trained again')
    assert run.is_of_other_weights(line)
    checkpoint.unlink()
    assert not run.is_of_other_weights(line)


def test_a_result_counts_for_its_own_weights_only(tmp_path):
    file = write_study(tmp_path, checkpoint='a.pth')
    run = load_study(file, tmp_path / 'out').runs[0]
    (tmp_path / 'a.pth').write_bytes(b'weights')
    run.folder.mkdir(parents=True)
    result = dict(config_hash=run.hash, checkpoint_digest=digest(tmp_path / 'a.pth'))
    (run.folder / 'result.json').write_text(json.dumps(result))
    assert run.result == result and not run.stale
    (tmp_path / 'a.pth').write_bytes(b'trained again')
    assert run.result is None and run.stale
    (tmp_path / 'a.pth').unlink()  # as far as one knows, they are the same
    assert run.result == result and not run.stale


def test_nothing_of_another_config_is_left(tmp_path):
    run = load_study(write_study(tmp_path), tmp_path / 'out').runs[0]
    logs = run.folder / '20260101_000000/vis_data'
    logs.mkdir(parents=True)
    old = [run.folder / name for name in ('epoch_1.pth', 'last_checkpoint', 'epochs', 'minutes')]
    old += [run.folder / 'detections.bbox.json', run.folder / 'result.json', logs / 'scalars.json']
    for file in (*old, run.folder / 'config_hash', run.folder / 'log.txt'):
        file.write_text('other')
    assert sorted(run.former) == sorted(old)
    aside = run.aside
    _set_aside_other_configs(run)
    assert not any(file.exists() for file in old) and not run.former
    # It may have been trained for hours.
    assert aside.name == 'before_other' and run.aside.name != aside.name
    moved = [aside / file.relative_to(run.folder) for file in old]
    assert [file.read_text() for file in moved] == ['other'] * len(old)
    assert (run.folder / 'log.txt').exists()
    assert (run.folder / 'config_hash').read_text() == run.hash
    (run.folder / 'config_hash').write_text('other')
    assert run.aside.name == 'before_other.2'  # which it was not to write over
    (run.folder / 'config_hash').write_text(run.hash)
    for file in old:
        file.write_text('own')
    _set_aside_other_configs(run)
    assert all(file.exists() for file in old)


def test_what_pycocotools_has_not_found_is_no_number():
    values = {'coco/bbox_mAP_s': -1.0, 'coco/bbox_mAP': 0.0, 'own/loss': -1.0, 'AP': -1.0}
    assert [name for name in values if _is_absent(name, values[name])] == ['coco/bbox_mAP_s']


def test_an_empty_table_of_curves_is_named(tmp_path):
    (tmp_path / 'a_curves.csv').touch()
    with pytest.raises(ValueError, match='a_curves.csv: a table without a first line'):
        read_curves(tmp_path / 'a_curves.csv')


def test_mean_spread_and_paired_interval():
    results = [result('plain', s, v) for s, v in enumerate((0.50, 0.56, 0.53))]
    results += [result('focal', s, v) for s, v in enumerate((0.53, 0.57, 0.57))]
    results += [result('other', 0, 0.4)]
    plain, focal, other = summarize(results, 'plain', ['AP50', 'AP'])
    assert plain['AP50']['mean'] == pytest.approx(0.53) and plain['AP50']['difference'] is None
    assert plain['AP50']['std'] == pytest.approx(0.03)
    differences = np.array([0.03, 0.01, 0.04])
    # Student's t with two degrees of freedom: 4.3027 standard errors
    half = 4.302653 * differences.std(ddof=1) / math.sqrt(3)
    numbers = focal['AP50']
    assert numbers['difference'] == pytest.approx(differences.mean())
    assert numbers['low'] == pytest.approx(differences.mean() - half, rel=1e-5)
    assert numbers['high'] == pytest.approx(differences.mean() + half, rel=1e-5)
    assert stats.t.ppf(0.975, 2) == pytest.approx(4.302653, rel=1e-6)
    assert other['AP50']['std'] is None and other['AP50']['low'] is None
    assert other['AP50']['difference'] == pytest.approx(-0.1)
    text = markdown([plain, focal, other], 'plain', ['AP50', 'AP'])
    assert '| plain | 3 | 53.0 ± 3.0 | 10.0 ± 0.0 |  |  | 2.0 |' in text
    assert '| other | 1 | 40.0 | 10.0 | -10.0 | +0.0 | 2.0 |' in text


def test_tables_survive_and_are_drawn(tmp_path):
    results = [result('a "b", c', 0, 0.5), result('d', 0, 0.25), result('d', 1, 0.35)]
    write_csv(tmp_path / 't.csv', results)
    write_curves(tmp_path / 'c.csv', results, 'coco/bbox_mAP_50')
    read = read_csv(tmp_path / 't.csv')
    assert [r['row'] for r in read] == [r['row'] for r in results]
    assert read[2]['metrics'] == {'AP': 0.1, 'AP50': 0.35, 'AP50 car': 0.35}
    curves = read_curves(tmp_path / 'c.csv')
    assert curves == {'a "b", c': {0: [(1, 0.25)]}, 'd': {0: [(1, 0.125)], 1: [(1, 0.175)]}}
    known = results_by_hash(tmp_path, 'coco/bbox_mAP_50')
    assert not known  # without curves it may be any table
    (tmp_path / 'c.csv').rename(tmp_path / 't_curves.csv')
    known = results_by_hash(tmp_path, 'coco/bbox_mAP_50')
    assert list(known) == ['a "b", c 0', 'd 0', 'd 1']
    assert known['d 1'] == read[2] | dict(curve=[{'epoch': 1, 'coco/bbox_mAP_50': 0.175}])
    assert results_by_hash(tmp_path, 'coco/bbox_mAP')['d 1']['curve'] == []
    (tmp_path / 't.csv').write_text('row,seed,minutes,images,parameters\nx,one,1,1,1\n')
    with pytest.raises(ValueError, match='t.csv, line 2'):
        read_csv(tmp_path / 't.csv')


@pytest.mark.parametrize('own', ['a', 'b'])
def test_a_study_keeps_its_own_runs_where_another_repeats_them(own, tmp_path):
    for name, value in (('a', 0.25), ('b', 0.75)):
        results = [result('plain', 0, value)]
        write_csv(tmp_path / f'{name}.csv', results)
        write_curves(tmp_path / f'{name}_curves.csv', results)
    found = results_by_hash(tmp_path, own=own)['plain 0']['metrics']['AP50']
    assert found == dict(a=0.25, b=0.75)[own]


def test_rows_of_other_metrics_are_kept(tmp_path):
    results = [result('plain', 0, 0.5), result('plain', 1, 0.5), result('other', 0, 0.5)]
    results[2]['metrics'] = {'recall/all': 0.25}
    results[1]['metrics'] = {}
    table = tmp_path / 't.csv'
    write_csv(table, results)
    write_curves(tmp_path / 't_curves.csv', results)
    first, empty, other = read_csv(table)
    assert other['metrics'] == {'recall/all': 0.25} and not empty['metrics']
    assert set(first['metrics']) == {'AP', 'AP50', 'AP50 car'}
    text = write_report(table, 'plain')
    assert '| other | 1 |  |  |  |  |  | 2.0 |' in text and 'nan' not in text
    # One without metrics has shown nothing, and runs again.
    assert sorted(results_by_hash(tmp_path)) == ['other 0', 'plain 0']


def test_further_metrics(tmp_path):
    """What AP50 and AP do not say stays; what they do, and further means of boxes, if asked for."""
    one, table = result('plain', 0, 0.5), tmp_path / 't.csv'
    kept = {'AP50': 0.5, 'AP': 0.1, 'AP50 car/van': 0.3, 'coco/segm_mAP': 0.2, 'count': 41.5}
    left = {'coco/bbox_mAP': 0.1, 'coco/bbox_mAP_s': 0.05, 'pascal_voc/AP50': 0.5}
    left |= {'coco/car/van_precision': 0.2}
    one['metrics'] = kept | left
    write_csv(table, [one])
    assert read_csv(table)[0]['metrics'] == kept
    write_csv(table, [one], ['coco/bbox_mAP_s'])
    assert read_csv(table)[0]['metrics'] == kept | {'coco/bbox_mAP_s': 0.05}
    text = write_report(table, None, ['AP', 'coco/segm_mAP', 'coco/bbox_mAP_s', 'count'])
    assert '| plain | 1 | 10.0 | 20.0 | 5.0 | 41.5 | 2.0 |' in text  # the last is no share
    with pytest.raises(ValueError, match="has no .'AR'"):
        write_report(table, None, ['AP', 'AR'])


def test_the_picture_of_what_is_no_share(tmp_path):
    results = [result('plain', 0, 0.5), result('focal', 0, 0.6)]
    for number, one in enumerate(results):
        one['metrics']['PQ'] = 41.0 + number
    curves = {'plain': {0: [(4000, 30.0), (8000, 41.0)]}}
    figure = draw(results, curves, 'plain', ['AP50', 'PQ'], 'PQ')
    panels = {axis.get_title(): axis for axis in figure.axes}
    precision, quality, curve = (panels[name] for name in ('AP50', 'PQ', 'PQ during training'))
    assert precision.get_xlabel().startswith('points; ') and quality.get_xlabel()[0] == 'm'
    assert quality.lines[0].get_xdata() == [41.0] and precision.lines[0].get_xdata() == [50.0]
    assert curve.lines[0].get_ydata().max() == 41.0
    differences = [panels[f'{name} against plain'] for name in ('AP50', 'PQ')]
    shown = [axis.containers[0].lines[0].get_xdata()[0] for axis in differences]
    assert shown == pytest.approx([10.0, 1.0])


def test_one_evaluation_is_no_curve():
    results = [result('plain', 0, 0.5), result('focal', 0, 0.6)]
    once = {'plain': {0: [(3, 0.5)]}, 'focal': {0: [(3, 0.6)]}}
    # Means, and below them the differences.
    assert len(draw(results, once, 'plain', ['AP50', 'AP']).axes) == 4
    assert len(draw(results, once, None, ['AP50', 'AP']).axes) == 2
    twice = once | {'focal': {0: [(1, 0.3), (3, 0.6)]}}
    assert len(draw(results, twice, 'plain', ['AP50', 'AP']).axes) == 5


@pytest.mark.parametrize(
    'known, shown, curve',
    [
        (('AP', 'AP50', 'AP50 car', 'coco/bbox_mAP_50'), ['AP50', 'AP'], 'coco/bbox_mAP_50'),
        (
            ('coco/bbox_mAP', 'coco/bbox_mAP_50', 'coco/bbox_mAP_75'),
            ['coco/bbox_mAP_50', 'coco/bbox_mAP'],
            'coco/bbox_mAP_50',
        ),
        (('pascal_voc/mAP', 'pascal_voc/AP50'), ['pascal_voc/AP50', 'pascal_voc/mAP'], None),
        (('z/recall', 'a/precision', 'b/f1'), ['a/precision', 'b/f1'], None),
    ],
)
def test_a_metric_without_ap50(tmp_path, known, shown, curve):
    """Tables, curves and picture have its main figures without being told their names."""
    logged = {name: 0.25 for name in known if '/' in name}
    metrics = dict.fromkeys(known, 0.5)
    one = result('plain', 0, 0.5) | dict(metrics=metrics, curve=[dict(epoch=1, **logged)])
    write_csv(tmp_path / 't.csv', [one])
    write_curves(tmp_path / 't_curves.csv', [one])
    assert f'| seeds | {" | ".join(shown)} |' in write_report(tmp_path / 't.csv', None)
    found = results_by_hash(tmp_path)['plain 0']['curve']
    assert found == [{'epoch': 1, curve or shown[0]: 0.25}]


def test_schedule_moves_with_the_epochs():
    config = Config(
        dict(
            train_cfg=dict(max_epochs=80, val_interval=10),
            param_scheduler=[
                dict(type='LinearLR', by_epoch=False, end=100),
                dict(type='CosineAnnealingLR', by_epoch=True, begin=0, end=80, T_max=80),
                dict(type='MultiStepLR', by_epoch=True, milestones=[40, 60], end=80),
            ],
        )
    )
    config = with_epochs(config, 20)
    assert config.train_cfg == dict(max_epochs=20, val_interval=2)
    warm_up, cosine, steps = config.param_scheduler
    assert warm_up.end == 100 and cosine.T_max == cosine.end == 20
    assert steps.milestones == [10, 15] and steps.end == 20


def test_what_else_counts_epochs():
    config = Config(
        dict(
            train_cfg=dict(max_epochs=100, val_begin=50),
            param_scheduler=[
                dict(type='CosineRestartLR', periods=[40, 60], restart_weights=[1, 0.5]),
                dict(type='OneCycleLR', total_steps=100),
                dict(type='ExponentialLR', gamma=0.9),
            ],
            custom_hooks=[dict(type='EMAHook', begin_epoch=80)],
        )
    )
    config = with_epochs(config, 20)
    restarts, one_cycle, exponential = config.param_scheduler
    assert restarts.periods == [8, 12] and one_cycle.total_steps == 20
    assert exponential.gamma == pytest.approx(0.9**5)
    assert config.train_cfg.val_begin == 10 and config.custom_hooks[0].begin_epoch == 16


def test_a_scheduler_counts_epochs_where_it_does_not_say():
    config = Config(dict(train_cfg=dict(max_epochs=12)))
    config.param_scheduler = [dict(type='MultiStepLR', milestones=[8, 11], end=12)]
    (scheduler,) = with_epochs(config, 24).param_scheduler
    assert scheduler.milestones == [16, 22] and scheduler.end == 24


@pytest.mark.parametrize('epochs', [3, 5, 7, 9])
def test_a_cosine_that_begins_late_ends_at_its_end(epochs):
    """However the epochs are rounded: else it would stop on its way, or rise again."""
    config = with_epochs(get_config('mmdet::rtmdet/rtmdet_tiny_8xb32-300e_coco.py'), epochs)
    _, cosine = config.param_scheduler
    assert cosine.end == epochs and cosine.T_max == epochs - cosine.begin


@pytest.mark.parametrize(
    'name', ['yolox/yolox_tiny_8xb8-300e_coco.py', 'rtmdet/rtmdet_tiny_8xb32-300e_coco.py']
)
def test_schedules_of_mmdetection_move_with_the_epochs(name):
    """Each scheduler has something to do, and the last epochs have the augmentation of the end."""
    config = get_config(f'mmdet::{name}')
    config = with_epochs(config, 10)
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.01)
    for scheduler in config.param_scheduler:
        PARAM_SCHEDULERS.build(dict(scheduler, optimizer=optimizer, convert_to_iter_based=False))
        assert scheduler.get('end', 10) > scheduler.get('begin', 0)
    hooks = {hook.type: hook for hook in config.custom_hooks}
    if 'YOLOXModeSwitchHook' in hooks:
        assert hooks['YOLOXModeSwitchHook'].num_last_epochs == 1  # 15 of 300
    else:
        assert hooks['PipelineSwitchHook'].switch_epoch == 9  # 280 of 300
        assert config.train_cfg.dynamic_intervals == [(9, 1)]
        _, cosine = config.param_scheduler  # from 150 to 300 of 300
        assert (cosine.begin, cosine.end, cosine.T_max) == (5, 10, 5)


def test_things_keep_their_shape_in_the_mosaic(tmp_path):
    """Both sizes are width and height: four images in the mosaic, one is cut out of it."""
    study = load_study(ROOT / 'studies/bccd_modern.py', tmp_path)
    (run,) = (r for r in study.runs if r.row.startswith('mosaic') and r.seed == 0)
    steps = {step.type: step for step in run.config.train_dataloader.dataset.pipeline}
    assert steps['RandomCrop'].crop_size == steps['Mosaic'].img_scale


def test_curve_keeps_the_latest_of_each_epoch(tmp_path):
    for name, value in (('1', 0.1), ('2', 0.2)):
        file = tmp_path / name / 'vis_data/scalars.json'
        file.parent.mkdir(parents=True)
        rows = [dict(loss=1, step=5), {'focal/x/gamma': 2, 'step': 50}]
        rows += [{'coco/bbox_mAP': value, 'step': 1}, {'coco/bbox_mAP': 3 * value, 'step': 2}]
        file.write_text('\n'.join(json.dumps(row) for row in rows))
    found = learning_curve(tmp_path)
    assert [point['epoch'] for point in found] == [1, 2]
    assert found[1]['coco/bbox_mAP'] == pytest.approx(0.6)


@pytest.mark.parametrize('file', sorted((ROOT / 'studies').glob('*.py')), ids=lambda f: f.stem)
def test_studies_here_load_and_have_their_tables(file, tmp_path, monkeypatch):
    study = load_study(file, tmp_path)
    hashes = {run.hash for run in study.runs}
    assert len(study.runs) > 3 and len(hashes) == len(study.runs)
    assert all('_delete_' not in str(run.config.to_dict()) for run in study.runs)
    if file.stem == 'bccd_pretrained':  # for weights that have to be downloaded
        return
    table, curves = (ROOT / f'docs/results/{file.stem}{end}.csv' for end in ('', '_curves'))
    # One command makes each of its rows again, as the configs are now.
    results = read_csv(table)
    assert results and {one['config_hash'] for one in results} <= hashes
    copies = [shutil.copy(one, tmp_path) for one in (table, curves)]
    monkeypatch.setattr('mmdet_yolo2fl.study_figure.draw', lambda *_: Figure())
    text = write_report(Path(copies[0]), study.baseline)
    assert table.with_suffix('.md').read_text() == text + '\n'


def test_pairs_that_were_not_trained_alike_are_named(tmp_path):
    results = [result('plain', seed, 0.5) for seed in (0, 1)]
    results += [result('focal', 0, 0.6), result('focal', 1, 0.6) | dict(precision='bfloat16')]
    results += [result('longer', 0, 0.6) | dict(images=200)]
    table = tmp_path / 'trial.csv'
    write_csv(table, results)
    write_curves(table.with_name('trial_curves.csv'), results)
    assert write_report(table, 'plain').splitlines()[-3:] == [
        'Not trained alike: focal, seed 1 bfloat16 against float32.',
        '',
        'Not trained alike: longer, seed 0 200 images against 100.',
    ]
    assert 'alike' not in write_report(table, None)


def test_a_checkpoint_beside_trainings_goes_with_all_of_them(tmp_path):
    """It has no seed: its difference is that of the means, and has no interval."""
    trained = [result('trained', seed, ap50) for seed, ap50 in enumerate((0.5, 0.6, 0.7))]
    alone = result('public', 0, 0.6) | dict(images=9, precision='?', checkpoint_digest='a')
    for baseline in ('trained', 'public'):
        for summary in summarize([*trained, alone], baseline, ['AP50']):
            if summary['row'] != baseline:
                assert summary['AP50']['difference'] == pytest.approx(0)
                assert summary['AP50']['low'] is None
        assert not unlike_pairs([*trained, alone], baseline)


def test_seconds_of_an_iteration(tmp_path, monkeypatch):
    """The fourth ends at 132; those after it take two seconds each."""

    def seconds(config, iterations):
        times = iter([100, 130, 131, 132, 132, *range(134, 900, 2)])
        clock = SimpleNamespace(perf_counter=times.__next__)
        monkeypatch.setattr(study_budget, 'time', clock)
        done, configs = [], []
        loop = SimpleNamespace(run_iter=lambda *batch: done.append(batch))

        def train():
            for index in range(iterations):
                loop.run_iter(index, 'a batch')

        def from_cfg(config):
            configs.append(config)
            return SimpleNamespace(train_loop=loop, train=train)

        monkeypatch.setattr(study_budget.Runner, 'from_cfg', from_cfg)
        return study_budget._seconds_an_iteration(config, tmp_path), len(done), configs[0]

    config = load_study(write_study(tmp_path), tmp_path).runs[0].config
    found, number, timed = seconds(config, 1000)
    assert (found, number) == (2, 12)
    # Hooks and multi-scale steps ask how long the training will last.
    assert timed.train_cfg == config.train_cfg and timed.val_cfg is None
    assert seconds(config, 6)[:2] == (2, 6)  # it has no more
    # Ten workers have twenty batches ready before the first has been waited for.
    config.train_dataloader.num_workers = 10
    assert seconds(config, 1000)[:2] == (2, 30)
    config.train_dataloader.num_workers = 2
    assert seconds(config, 1)[:2] == (30, 1)
    for kind, more in (('BatchSyncRandomResize', {}), ('DarknetBatchResize', AFTER_EIGHT)):
        step = dict(type=kind, random_size_range=(64, 128), interval=10, **more)
        config.model.data_preprocessor.batch_augments = [step]
        found, number, timed = seconds(config, 1000)
        assert (found, number) == (2, 28)
        (drawn,) = timed.model.data_preprocessor.batch_augments
        assert drawn == step | dict(interval=1, **dict.fromkeys(more, 1))


def test_what_a_silent_metric_said_before_is_not_said_again(tmp_path):
    hub = MessageHub.get_instance('silent')
    for name in ('val/coco/bbox_mAP_50', 'val/time', 'train/loss'):
        hub.update_scalar(name, 0.5)
    study._Clock(tmp_path / 'minutes').before_val_epoch(SimpleNamespace(message_hub=hub))
    assert set(hub.log_scalars) == {'val/time', 'train/loss'}


def test_steps_move_with_the_epochs():
    config = Config(dict(train_cfg=dict(max_epochs=90)))
    config.param_scheduler = [dict(type='StepLR', step_size=30)]
    assert with_epochs(config, 30).param_scheduler[0].step_size == 10


def test_options_go_before_the_rows(tmp_path):
    options = {'model.bbox_head.prior_prob': 0.3}
    plain = load_study(write_study(tmp_path), tmp_path, options).runs[0]
    assert plain.config.model.bbox_head.prior_prob == 0.3  # the row says 0.1


def test_minutes_go_on_after_a_kill(tmp_path, monkeypatch):
    now = [0.0]
    clock = SimpleNamespace(monotonic=lambda: now[0])
    monkeypatch.setattr('mmdet_yolo2fl.study.time', clock)
    first = study._Clock(tmp_path / 'minutes')
    now[0] = 120.0
    assert first.write() == 2
    second = study._Clock(tmp_path / 'minutes')
    now[0] = 150.0
    assert second.write() == 2.5
