import csv
import json
import os
import shutil
import sys
import time
from pathlib import Path

import pytest

from mmdet_yolo2fl import study_budget
from mmdet_yolo2fl.study import load_study
from tests.processes import start
from tests.tools.conftest import ROOT, load_tool

STUDY = """
config = '{root}/configs/yolov2_fl.py'
seeds = [0]
baseline = 'plain'
_common = dict(
    # Boxes from the start: without any, MMDetection's metric reports nothing.
    model=dict(bbox_head=dict(prior_prob=0.5)),
    train_dataloader=dict(
        batch_size=2,
        num_workers=0,
        persistent_workers=False,
        dataset=dict(num_images=4, image_size=(96, 64)),
    ),
    val_dataloader=dict(
        num_workers=0,
        persistent_workers=False,
        dataset=dict(num_images=2, image_size=(96, 64)),
    ),
    optim_wrapper=dict(type='OptimWrapper'),
    train_cfg=dict(max_epochs=2, val_interval=1),
    custom_hooks=[],
)
rows = dict(
    plain=dict(_common, model=dict(bbox_head=dict(prior_prob=0.5, loss_obj=dict(gamma=0.0)))),
    focal=_common,
)
budget = {budget}
"""


@pytest.fixture
def study(tmp_path, monkeypatch):
    monkeypatch.setenv('MMDET_YOLO2FL_DATA', str(tmp_path / 'cache'))
    monkeypatch.setenv('OMP_NUM_THREADS', '1')
    monkeypatch.chdir(tmp_path)

    def write(budget=None):
        file = tmp_path / 'trial.py'
        file.write_text(STUDY.format(root=ROOT, budget=budget))
        return str(file)

    return write


def test_trains_reports_and_does_not_repeat(tool, study, tmp_path, capsys):
    main, out = tool('study'), tmp_path / 'work_dirs/study/trial'
    # One in this process, one in its own, as a study does it: that takes ten seconds more.
    main([study(), '--worker', 'plain', '0'])
    main([study()])
    printed = capsys.readouterr().out
    assert '2 runs, 1 of them to do, 1 at once' in printed
    rows = list(csv.DictReader((out / 'trial.csv').open()))
    assert [row['row'] for row in rows] == ['plain', 'focal']
    assert all(row['images'] == '8' and 0 <= float(row['AP50 car']) <= 1 for row in rows)
    assert '| focal | 1 |' in (out / 'trial.md').read_text()
    assert (out / 'trial.png').stat().st_size > 10_000
    result = json.loads((out / 'focal/seed_0/result.json').read_text())
    assert [point['epoch'] for point in result['curve']] == [1, 2]
    stamp = (out / 'focal/seed_0/result.json').stat().st_mtime_ns
    main([study()])
    assert '2 runs, 0 of them to do' in capsys.readouterr().out
    assert (out / 'focal/seed_0/result.json').stat().st_mtime_ns == stamp


def finish(run, **metrics):
    """As if it had been trained."""
    run.folder.mkdir(parents=True)
    about = dict(images=8, parameters=1, machine='', precision='float32', config_hash=run.hash)
    curve = [{'epoch': 2, 'coco/bbox_mAP_50': 0.5}]
    result = dict(row=run.row, seed=run.seed, metrics=metrics, curve=curve, minutes=1.0, **about)
    (run.folder / 'result.json').write_text(json.dumps(result))


def test_what_a_table_has_is_not_run_again(tool, study, tmp_path, capsys, monkeypatch):
    main, out, tables = tool('study'), tmp_path / 'work_dirs/study/trial', tmp_path / 'tables'
    monkeypatch.setitem(main.__globals__, 'run_all', lambda args, runs: {})  # no need to train
    for run in load_study(study(), out).runs:
        finish(run, AP50=0.5, AP=0.25)
    main([study(), '--tables', str(tables), '--report'])
    before = (tables / 'trial.csv').read_text(), (tables / 'trial_curves.csv').read_text()
    assert before[0].count('0.5000') == before[1].count('0.5000') == 2
    shutil.rmtree(out)
    (tables / 'trial.csv').rename(tables / 'other.csv')  # of whichever study
    (tables / 'trial_curves.csv').rename(tables / 'other_curves.csv')
    capsys.readouterr()
    main([study(), '--tables', str(tables)])
    assert '2 runs, 0 of them to do' in capsys.readouterr().out
    after = (tables / 'trial.csv').read_text(), (tables / 'trial_curves.csv').read_text()
    assert after == before
    with pytest.raises(SystemExit, match='coco/bbox_mAP_50 of 2 runs whose folders are gone'):
        main([study(), '--tables', str(tables), '--report', '--curve', 'coco/bbox_mAP'])
    # One new run may have other metrics: the curves of those that are gone stay.
    main([study(), '--tables', str(tables), '--report', '--out', str(tmp_path / 'new')])
    run = load_study(study(), tmp_path / 'new').runs[0]
    finish(run, AP50=0.5, AP=0.25)
    result = json.loads((run.folder / 'result.json').read_text())
    result['curve'] = [{'epoch': 1, 'coco/bbox_mAP': 0.1, 'coco/bbox_mAP_50': 0.9}]
    (run.folder / 'result.json').write_text(json.dumps(result))
    curves = tables / 'trial_curves.csv'
    curves.write_text(before[1].replace('coco/bbox_mAP_50', 'coco/bbox_mAP'))
    main([study(), '--tables', str(tables), '--report', '--out', str(tmp_path / 'new')])
    assert curves.read_text().count('0.5000') == curves.read_text().count('0.1000') == 1
    for name, text in zip(('trial.csv', 'trial_curves.csv'), before):
        (tables / name).write_text(text)
    # Another config is another run.
    main([study(dict(images=12)), '--rows', 'focal', '--tables', str(tables)])
    printed = capsys.readouterr().out
    assert '1 runs, 1 of them to do' in printed and 'other configs' not in printed
    # Before the first of these is complete, the table is that of the former ones.
    assert (tables / 'trial.csv').read_text() == before[0] and not list(tables.glob('*.csv.*'))
    finish(load_study(study(dict(images=12)), out).runs[0], AP50=0.5, AP=0.25)
    for _ in range(2):
        main([study(dict(images=12)), '--report', '--tables', str(tables)])
    printed = capsys.readouterr().out
    assert printed.count('2 lines of other configs') == 1
    assert f'the table as it was is {tables / "trial.csv.1"} now' in printed
    assert len(list(tables.glob('*.csv.*'))) == 2
    kept = [(tables / f'{name}.csv.1').read_text() for name in ('trial', 'trial_curves')]
    assert tuple(kept) == before


def test_columns_that_were_asked_for_stay(tool, study, tmp_path):
    main, out, tables = tool('study'), tmp_path / 'work_dirs/study/trial', tmp_path / 'tables'
    for run in load_study(study(), out).runs:
        finish(run, AP50=0.5, AP=0.25, **{'coco/bbox_mAP_s': 0.125, 'coco/bbox_mAP_m': 0.75})
    options = [study(), '--tables', str(tables), '--report']
    main([*options, '--metrics', 'AP50', 'coco/bbox_mAP_s'])
    before = (tables / 'trial.csv').read_text()
    assert before.count('0.1250') == 2 and '0.7500' not in before
    main(options)  # of what else the folders know nothing comes in
    assert (tables / 'trial.csv').read_text() == before
    shutil.rmtree(out)
    main(options)
    assert (tables / 'trial.csv').read_text() == before


def train(data, *arguments):
    os.environ['MMDET_YOLO2FL_DATA'] = data  # the process has the variables of an earlier one
    load_tool('study')(arguments)


def test_a_killed_run_goes_on(tool, study, tmp_path):
    folder = tmp_path / 'work_dirs/study/trial/focal/seed_0'
    file, out = study(), str(folder.parents[1])
    cache = os.environ['MMDET_YOLO2FL_DATA']
    worker = start(train, cache, file, '--out', out, '--worker', 'focal', '0')
    while not (folder / 'last_checkpoint').is_file():
        assert worker.is_alive()
        time.sleep(0.02)
    worker.kill()
    worker.join()
    assert not (folder / 'result.json').is_file()
    tool('study')([study(), '--worker', 'focal', '0'])
    result = json.loads((folder / 'result.json').read_text())
    # The evaluation of the first epoch may have come after the kill.
    assert result['curve'][-1]['epoch'] == 2 and result['images'] == 8
    logs = ''.join(log.read_text() for log in folder.glob('*/*.log'))
    assert 'resumed epoch: 1' in logs


@pytest.mark.parametrize('budget', [dict(images=12), dict(minutes=0.25)])
def test_budget(tool, study, tmp_path, budget, monkeypatch):
    main, measured = tool('study'), study_budget._seconds_an_iteration
    # 12 seconds an epoch, whatever this machine needs.
    monkeypatch.setattr(
        study_budget, '_seconds_an_iteration', lambda *args: 6.0 * (measured(*args) > 0)
    )
    main([study(budget), '--worker', 'focal', '0'])
    folder = tmp_path / 'work_dirs/study/trial/focal/seed_0'
    result = json.loads((folder / 'result.json').read_text())
    assert result['images'] == (12 if 'images' in budget else 4)
    assert result['curve'], 'its log is its own, not that of the measurement'
    # Its epochs have not changed what it is.
    (run,) = (r for r in load_study(study(budget), folder.parents[1]).runs if r.row == 'focal')
    assert run.result == result


def test_some_rows_and_some_seeds(tool, study, tmp_path, capsys, monkeypatch):
    main, asked = tool('study'), []
    monkeypatch.setitem(
        main.__globals__,
        'run_all',
        lambda args, runs: asked.extend((run.row, run.seed) for run in runs) or {},
    )
    file = study()
    Path(file).write_text(Path(file).read_text().replace('seeds = [0]', 'seeds = [0, 1, 2]'))
    finish(load_study(file, tmp_path / 'work_dirs/study/trial').runs[0], AP50=0.5, AP=0.25)
    for options, expected in (
        (('--seeds', '1'), [('plain', 1), ('focal', 1)]),
        (('--rows', 'focal', '--seeds', '2', '0'), [('focal', 0), ('focal', 2)]),
        ((), [('focal', 0), ('plain', 1), ('focal', 1), ('plain', 2), ('focal', 2)]),
    ):
        asked.clear()
        main([file, *options])
        assert asked == expected
    assert '6 runs, 5 of them to do' in capsys.readouterr().out


STAND_IN = """#!/bin/sh
# Called as Python is: tools/study.py FILE --out FOLDER --worker ROW SEED --cfg-options ...
echo "$@" >&2
[ "$6" = focal ] && cp done.json "$4/focal/seed_0/result.json"
"""


@pytest.mark.parametrize('jobs', [1, 2])
def test_a_failed_run_is_named_and_the_others_go_on(
    tool, study, tmp_path, capsys, monkeypatch, jobs
):
    main, python = tool('study'), tmp_path / 'python'
    python.write_text(STAND_IN)
    python.chmod(0o755)
    monkeypatch.setattr(sys, 'executable', str(python))
    out = tmp_path / 'work_dirs/study/trial'
    options = {'train_cfg.max_epochs': 1}
    (run,) = (run for run in load_study(study(), out, options).runs if run.row == 'focal')
    finish(run, AP50=0.5, AP=0.25)
    (run.folder / 'result.json').rename(tmp_path / 'done.json')
    with pytest.raises(SystemExit) as stop:
        main([study(), '--jobs', str(jobs), '--cfg-options', 'train_cfg.max_epochs=1'])
    printed = capsys.readouterr().out
    assert f'2 runs, 2 of them to do, {jobs} at once' in printed
    assert 'focal, seed 0: AP50 0.500, AP 0.250' in printed
    for row in ('plain', 'focal'):
        log = (out / row / 'seed_0/log.txt').read_text()
        assert log.endswith(f'--worker {row} 0 --cfg-options train_cfg.max_epochs=1\n')
    assert '1 runs failed' in str(stop.value) and 'plain, seed 0' in str(stop.value)


def test_an_interrupted_study_starts_nothing_more(tool, study, tmp_path, monkeypatch):
    main, python, started = tool('study'), tmp_path / 'python', tmp_path / 'started'
    python.write_text(f'#!/bin/sh\necho started >> {started}\nexec sleep 600\n')
    python.chmod(0o755)
    monkeypatch.setattr(sys, 'executable', str(python))

    def interrupted(futures):
        while not started.is_file():
            time.sleep(0.02)
        raise KeyboardInterrupt

    monkeypatch.setitem(main.__globals__, 'as_completed', interrupted)
    with pytest.raises(SystemExit, match='The same command goes on'):
        main([study(), '--jobs', '1'])
    assert started.read_text() == 'started\n'


def test_a_folder_that_cannot_be_made_is_named(tool, study, tmp_path, capsys):
    out = tmp_path / 'work_dirs/study/trial'
    out.mkdir(parents=True)
    for row in ('plain', 'focal'):
        (out / row).write_text('a file')
    with pytest.raises(SystemExit, match='2 runs failed.*focal, seed 0.*trial/focal'):
        tool('study')([study()])
    assert 'plain, seed 0: FAILED: ' in capsys.readouterr().out


def test_a_study_changed_while_it_runs(tool, study, tmp_path, monkeypatch):
    """A worker reads it anew, and would train something else than what it was started for."""
    main, run = tool('study'), load_study(study(), tmp_path / 'out').runs[0]
    monkeypatch.setenv('MMDET_YOLO2FL_STUDY_HASH', run.hash + 'x')
    for row in (run.row, 'renamed'):
        with pytest.raises(SystemExit, match='trial.py, or a config of it, has been changed since'):
            main([study(), '--out', str(tmp_path / 'out'), '--worker', row, '0'])
    assert not run.folder.exists()


def test_what_another_config_has_trained_is_named(tool, study, tmp_path, capsys, monkeypatch):
    main, out = tool('study'), tmp_path / 'work_dirs/study/trial'
    monkeypatch.setitem(main.__globals__, 'run_all', lambda args, runs: {})
    run = next(run for run in load_study(study(), out).runs if run.row == 'focal')
    run.folder.mkdir(parents=True)
    (run.folder / 'epoch_2.pth').write_bytes(b'weights')
    (run.folder / 'config_hash').write_text('another')
    main([study()])
    said = capsys.readouterr().out
    goes = 'was run with another config; what that left goes to work_dirs/study/trial/'
    assert f'focal, seed 0: {goes}focal/seed_0/before_another\n' in said
    assert 'plain, seed 0' not in said


def test_threads_are_those_that_the_process_may_use(tool, study, monkeypatch, tmp_path):
    main, given = tool('study'), []
    monkeypatch.delenv('OMP_NUM_THREADS', raising=False)
    monkeypatch.setattr('os.sched_getaffinity', lambda _: {3, 5, 7, 9}, raising=False)

    def popen(command, env, **streams):
        given.append((env['OMP_NUM_THREADS'], env['MMDET_YOLO2FL_STUDY_HASH']))
        raise OSError('enough')

    monkeypatch.setattr('subprocess.Popen', popen)
    with pytest.raises(SystemExit, match='2 runs failed'):
        main([study(), '--jobs', '2'])
    hashes = {run.hash for run in load_study(study(), tmp_path / 'work_dirs/study/trial').runs}
    assert set(given) == {('2', value) for value in hashes}


def test_tables_that_cannot_be_written_are_told_before_the_work(tool, study, tmp_path, monkeypatch):
    main = tool('study')
    monkeypatch.setitem(main.__globals__, 'run_all', lambda *_: pytest.fail('has begun'))
    (tmp_path / 'file').touch()
    with pytest.raises(SystemExit, match='--tables: .*file'):
        main([study(), '--tables', str(tmp_path / 'file/tables')])


def test_gpus_that_the_user_has_chosen(tool, monkeypatch):
    visible_gpu = tool('study').__globals__['visible_gpu']
    monkeypatch.setattr('torch.cuda.device_count', lambda: 2)
    monkeypatch.delenv('CUDA_VISIBLE_DEVICES', raising=False)
    assert [visible_gpu(slot) for slot in range(3)] == ['0', '1', '0']
    monkeypatch.setenv('CUDA_VISIBLE_DEVICES', '5,GPU-ab12')
    assert [visible_gpu(slot) for slot in range(3)] == ['5', 'GPU-ab12', '5']


def test_evaluates_checkpoints(tool, study, tmp_path, capsys):
    """What the training's own last evaluation has found, is found; with flips something else."""
    main, out = tool('study'), tmp_path / 'work_dirs/study'
    # In this process: a process for each takes ten seconds more.
    main([study(), '--worker', 'focal', '0'])
    text = (tmp_path / 'trial.py').read_text()
    # On the validation set, which the training was evaluated on.
    rows = '_common["test_dataloader"] = _common["val_dataloader"]\n'
    rows += 'rows = dict(plain=_common, flips=dict(_common, tta=True))'
    text = text[: text.index('rows = dict(')] + rows
    checkpoint = "\ncheckpoint = 'work_dirs/study/trial/focal/seed_{seed}/epoch_2.pth'\n"
    (tmp_path / 'tests.py').write_text(text + checkpoint)
    for row in ('plain', 'flips'):
        main(['tests.py', '--worker', row, '0'])
    main(['tests.py', '--report'])
    trained, plain, flips = (
        json.loads((out / row / 'seed_0/detections.bbox.json').read_text())
        for row in ('trial/focal', 'tests/plain', 'tests/flips')
    )
    assert plain == trained and len(flips) > 10 and flips != plain
    result = json.loads((out / 'tests/flips/seed_0/result.json').read_text())
    assert result['images'] == 2 and result['curve'] == [] and 'AP50 car' in result['metrics']
    assert '| flips | 1 |' in (out / 'tests/tests.md').read_text()
    assert not list((out / 'tests').glob('*/*/*.pth')), 'nothing is trained'
    # Fine-tuned from it, by iterations: from the first one on, not "resumed" behind the last.
    loop = dict(_delete_=True, type='IterBasedTrainLoop', max_iters=3, val_interval=2)
    # A visualizer of its own: in this process MMEngine has one for each name.
    tune = "visualizer=dict(name='tune'), "
    tune += f"load_from='work_dirs/study/trial/focal/seed_0/epoch_2.pth', train_cfg={loop}"
    (tmp_path / 'tune.py').write_text(f'{text}\nrows = dict(plain=_common | dict({tune}))\n')
    main(['tune.py', '--worker', 'plain', '0'])
    result = json.loads((out / 'tune/plain/seed_0/result.json').read_text())
    assert result['images'] == 6 and [point['epoch'] for point in result['curve']] == [2, 3]
    capsys.readouterr()
    # What is there stands in the report, what is not is named.
    (tmp_path / 'tests.py').write_text(text + "\nrows['flips']['checkpoint'] = 'lost_{seed}.pth'\n")
    with pytest.raises(SystemExit, match='1 runs failed') as stop:
        main(['tests.py'])
    assert "'flips, seed 0': 'there is no checkpoint lost_0.pth'" in str(stop.value)
    assert '| plain | 1 |' in capsys.readouterr().out


def test_usage_errors(tool, refused, study, tmp_path):
    main = tool('study')
    assert 'no such study' in refused(main, tmp_path / 'none.py')
    assert 'it has' in refused(main, study(), '--rows', 'x')
    assert 'has none of [7]; it has [0]' in refused(main, study(), '--seeds', '7')
    assert '--jobs' in refused(main, study(), '--jobs', '0')


def test_a_worker_gets_the_options_and_nothing_else(tool, study, monkeypatch, tmp_path):
    main, commands = tool('study'), []

    class Popen:
        def __init__(self, command, **streams):
            commands.append(command)

        def wait(self):
            return 1

    monkeypatch.setattr('subprocess.Popen', Popen)
    options = ['--cfg', 'model.b=1', '--rows', 'gamma=2', '--cfg-options', 'log_level=x=2']
    file = Path(study())
    file.write_text(
        file.read_text().replace('    focal=', "    **{'gamma=2': _common},\n    focal=")
    )
    with pytest.raises(SystemExit, match='1 runs failed'):
        main(['trial.py', *options])
    (command,) = commands
    assert command[command.index('--cfg-options') :] == [
        '--cfg-options',
        'model.b=1',
        'log_level=x=2',
    ]


def test_errors_from_their_table_alone(tool, refused, tmp_path, capsys):
    kinds = 'duplicate,class,localization,both,background'
    table = tmp_path / 'mine.csv'
    table.write_text(
        f'row,seed,name,truths,threshold,missed,false,{kinds},ap,ap50,ap small\n'
        'a,0,car,10,.5,2,3,1,0,1,0,1,.4,.8,\na,1,car,10,.6,4,1,0,0,1,0,0,.6,.8,\n'
    )
    tool('plot_study')([str(table), '--out', str(tmp_path / 'new')])
    line = '| car | a | 2 | 10 | 3.0 | 2.0 | 0.5 | 0.0 | 1.0 | 0.0 | 0.5 | 50.0 | 80.0 |'
    assert line in capsys.readouterr().out
    assert (tmp_path / 'new/mine.md').read_text().startswith('mine:\n\n| class |')
    assert (tmp_path / 'new/mine.png').stat().st_size > 5_000
    # What was counted is known from the Markdown beside it.
    (tmp_path / 'mine.md').write_text('Some data, IoU 0.5:\n\n|')
    tool('plot_study')([str(table)])
    assert (tmp_path / 'mine.md').read_text().startswith('Some data, IoU 0.5:\n\n| class |')
    text, b_of_a_bus = table.read_text(), 'b,0,bus,1,.5,0,0,0,0,0,0,0,.4,.8,'
    table.write_text(text.replace('.4', 'x'))
    assert 'mine.csv, line 2: ' in refused(tool('plot_study'), table)
    head, *_ = text.splitlines()
    for lines in ([], ['a,0,car,10,.5,,3,1,0,1,0,1,.4,.8,'], [*text.splitlines()[1:], b_of_a_bus]):
        table.write_text('\n'.join([head, *lines]) + '\n')
        assert 'mine.csv' in refused(tool('plot_study'), table)


def test_the_errors_of_the_finalists_are_those_of_their_table(tool, tmp_path):
    results = ROOT / 'docs/results'
    for kind in ('csv', 'md'):
        shutil.copy(results / f'bccd_final_errors.{kind}', tmp_path)
    tool('plot_study')([str(tmp_path / 'bccd_final_errors.csv')])
    new = (tmp_path / 'bccd_final_errors.md').read_text()
    assert new == (results / 'bccd_final_errors.md').read_text()


def test_plots_from_the_tables_alone(tool, refused, tmp_path, capsys):
    table = tmp_path / 't.csv'
    table.write_text(
        'row,seed,minutes,images,parameters,AP50\na,0,1,1,1,0.5\na,1,1,1,1,0.6\nb,0,1,1,1,0.7\n'
    )
    tool('plot_study')([str(table), '--baseline', 'a'])
    assert '| b | 1 | 70.0 | +20.0 | 1.0 |' in capsys.readouterr().out
    assert (tmp_path / 't.png').stat().st_size > 5_000
    assert '| a | 2 | 55.0 ± 7.1 |' in (tmp_path / 't.md').read_text()
    main = tool('plot_study')
    main([str(table), '--baseline', 'b', '--out', str(tmp_path / 'new' / 'folder')])
    assert '| a | 2 | 55.0 ± 7.1 | -20.0 |' in (tmp_path / 'new/folder/t.md').read_text()
    assert (tmp_path / 'new/folder/t.png').is_file()
    assert '-20.0' not in (tmp_path / 't.md').read_text()
    assert 'no such table' in refused(main, tmp_path / 'none.csv')
    assert 'it has' in refused(main, table, '--metrics', 'AP75')
    assert "has no 'c'; it has ['a', 'b']" in refused(main, table, '--baseline', 'c')
