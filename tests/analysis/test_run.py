"""Folders and logs as trainings leave them."""

import json
import os

import pytest

from mmdet_yolo2fl.analysis.run_folder import find_checkpoint, find_config, find_runs
from mmdet_yolo2fl.analysis.training_log import (
    loss_keys,
    metric_keys,
    read_training_log,
    series,
)


def touch(path, age=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    os.utime(path, (1e9 - age, 1e9 - age))
    return path


def test_best_before_last_before_numbered(tmp_path):
    tenth = touch(tmp_path / 'epoch_10.pth')
    touch(tmp_path / 'epoch_9.pth')
    assert find_checkpoint(tmp_path) == tenth
    ninth = tmp_path / 'epoch_9.pth'
    (tmp_path / 'last_checkpoint').write_text(f'{ninth}\n')
    assert find_checkpoint(tmp_path) == ninth
    (tmp_path / 'last_checkpoint').write_text('/moved/from/here/epoch_9.pth')
    assert find_checkpoint(tmp_path) == ninth
    elsewhere = touch(tmp_path / 'elsewhere/epoch_5.pth')
    (tmp_path / 'last_checkpoint').write_text(str(elsewhere))
    assert find_checkpoint(tmp_path) == elsewhere
    touch(tmp_path / 'best_coco_bbox_mAP_epoch_3.pth', age=99)
    newer = touch(tmp_path / 'best_coco_bbox_mAP_50_epoch_2.pth')
    assert find_checkpoint(tmp_path) == newer


def test_interrupted_before_the_first_checkpoint(tmp_path):
    touch(tmp_path / 'cells.py')
    touch(tmp_path / 'best_x.pth.tmp')
    (tmp_path / 'last_checkpoint').write_text('gone.pth')
    assert find_runs(tmp_path) == [tmp_path]
    with pytest.raises(ValueError, match=r'no checkpoint. Looked for best_\*\.pth.*interrupted'):
        find_checkpoint(tmp_path)


def test_config(tmp_path):
    with pytest.raises(ValueError, match=r'no config. Looked for \*\.py.*--config'):
        find_config(tmp_path)
    inner = touch(tmp_path / '20260101_000000/vis_data/config.py')
    assert find_config(tmp_path) == inner
    touch(tmp_path / 'old.py', age=99)
    new = touch(tmp_path / 'new.py')
    assert find_config(tmp_path) == new


def test_wrong_folders(tmp_path):
    with pytest.raises(ValueError, match='there is no such folder'):
        find_runs(tmp_path / 'nowhere')
    with pytest.raises(ValueError, match='is empty'):
        find_runs(tmp_path)
    with pytest.raises(ValueError, match='is a file.*--checkpoint'):
        find_runs(touch(tmp_path / 'many/epoch_1.pth'))


def test_what_a_study_has_put_aside_is_no_run(tmp_path):
    for name in (
        'config_hash',
        'result.json',
        'before_ab12/result.json',
        'before_ab12/epoch_1.pth',
    ):
        touch(tmp_path / 'focal/seed_0' / name)
    # So a folder may be called that is nobody's past.
    other = touch(tmp_path / 'before_summer/epoch_1.pth').parent
    assert {*find_runs(tmp_path)} == {other, tmp_path / 'focal/seed_0'}


def test_a_study_stands_for_its_runs(tmp_path):
    study = tmp_path / 'study'
    for seed in (10, 2):
        touch(study / f'focal/seed_{seed}/epoch_1.pth')
    # On another disk, say.
    touch(tmp_path / 'elsewhere/epoch_1.pth')
    (study / 'linked').symlink_to(tmp_path / 'elsewhere')
    runs = [study / 'focal/seed_2', study / 'focal/seed_10', study / 'linked']
    assert find_runs(study) == runs
    touch(study / 'focal/seed_2/config_hash')  # begun and not ended
    assert find_runs(study) == runs[1:]
    touch(study / 'focal/seed_2/result.json')
    assert find_runs(study) == runs
    (study / 'focal/seed_2/result.json').unlink()
    (study / 'focal/seed_10/epoch_1.pth').unlink()
    with pytest.raises(ValueError, match='no run in it has ended yet: .*seed_2'):
        find_runs(study / 'focal')


def test_a_study_is_what_its_last_checkpoint_is(tmp_path):
    """Its figures are those of the last evaluation, not of the best one."""
    run = tmp_path / 'focal/seed_2'
    for name in ('best_coco_bbox_mAP_epoch_1.pth', 'epoch_2.pth', 'config_hash', 'result.json'):
        touch(run / name)
    assert find_checkpoint(run) == run / 'epoch_2.pth'
    # A row of one that evaluates checkpoints has none of its own.
    for path in run.glob('*.pth'):
        path.unlink()
    assert find_runs(tmp_path) == [run]
    with pytest.raises(ValueError, match='evaluates that of another run'):
        find_checkpoint(run)


def write_log(folder, name, rows, end=''):
    file = folder / name / 'vis_data/scalars.json'
    file.parent.mkdir(parents=True)
    file.write_text(''.join(json.dumps(row) + '\n' for row in rows) + end)


def trained(step, loss=1.0):
    return dict(lr=0.1, loss=loss, loss_cls=loss / 2, epoch=step // 10, iter=step, step=step)


def validated(epoch, ap):
    return {'coco/bbox_mAP': ap, 'coco/bbox_mAP_s': 0.1, 'time': 1.0, 'step': epoch}


def test_a_resumed_run_is_one_run(tmp_path):
    rows = [trained(10), validated(1, 0.1), trained(20, 2.0), trained(30, 3.0)]
    write_log(tmp_path, '1', rows, end='{"lr": 0.1, "lo')
    write_log(tmp_path, '2', [trained(20, 5.0), validated(2, 0.2)])
    training, validation = read_training_log(tmp_path)
    assert series(training, ['loss']) == dict(loss=([10, 20], [1.0, 5.0]))
    assert series(validation, ['coco/bbox_mAP']) == {'coco/bbox_mAP': ([1, 2], [0.1, 0.2])}


def test_validations_of_a_loop_of_iterations(tmp_path):
    """MMEngine logs them by an epoch that stays 0."""

    def logged(step):
        return dict(lr=0.1, loss=1.0, iter=step, step=step)

    def tested(ap):
        return {'coco/bbox_mAP': ap, 'step': 0}

    write_log(tmp_path, '1', [logged(5), logged(10), tested(0.1), logged(20), tested(0.2)])
    write_log(tmp_path, '2', [logged(25), logged(30), tested(0.3)])
    _, validation = read_training_log(tmp_path)
    found = series(validation, ['coco/bbox_mAP'])['coco/bbox_mAP']
    assert found == ([10, 20, 30], [0.1, 0.2, 0.3])


def test_a_run_started_anew_replaces_the_former(tmp_path):
    write_log(tmp_path, '1', [trained(10), validated(1, 0.9), trained(20)])
    write_log(tmp_path, '2', [trained(10, 7.0)])
    training, validation = read_training_log(tmp_path)
    assert [row['loss'] for row in training] == [7.0] and not validation


def test_shares_of_the_loss_are_no_validation(tmp_path):
    """``FocalLossAnalysisHook`` logs them by the iteration."""
    shares = {'focal/loss_obj': 0.5, 'step': 250}
    write_log(tmp_path, '1', [shares, *(validated(epoch, 0.1) for epoch in (1, 2, 3))])
    write_log(tmp_path, '2', [shares, *(validated(epoch, 0.2) for epoch in (3, 4))])
    _, validation = read_training_log(tmp_path)
    values = ([1, 2, 3, 4], [0.1, 0.1, 0.2, 0.2])
    assert series(validation, ['coco/bbox_mAP']) == {'coco/bbox_mAP': values}


def test_no_log(tmp_path):
    assert read_training_log(tmp_path) == ([], [])


def test_which_curves():
    row = trained(1) | dict(loss_xy=9.0, avg_iou=1.0, grad_norm=3.0)
    row |= {'focal/loss_obj': 3.0}
    assert loss_keys([row]) == ['loss', 'loss_xy', 'loss_cls']
    assert metric_keys([validated(1, 0.1)]) == ['coco/bbox_mAP']
    assert metric_keys([{'pascal_voc/mAP': 1, 'pascal_voc/AP50': 1}]) == (
        ['pascal_voc/mAP', 'pascal_voc/AP50']
    )
    assert metric_keys([{'own/thing': 1}]) == ['own/thing']
