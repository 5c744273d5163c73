"""Whole checkpoints, whatever happens."""

import locale
import os
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from mmdet.registry import HOOKS
from mmengine.fileio import get_file_backend
from mmengine.runner import Runner
from mmengine.runner.checkpoint import get_torch_safe_globals
from tiny_run import InterruptedRunError, assert_same_weights, config, train

from mmdet_yolo2fl.analysis.run_folder import find_checkpoint
from mmdet_yolo2fl.checkpoints import latest_whole_checkpoint, read_pointer


def checkpoints(work_dir):
    return {path.name for path in work_dir.glob('*.pth*')}


def load(path):
    with torch.serialization.safe_globals(get_torch_safe_globals()):
        return torch.load(path, weights_only=True)


@pytest.mark.parametrize(
    'options',
    [
        dict(max_keep_ckpts=2),
        dict(max_keep_ckpts=2, interval=3, save_last=True, save_optimizer=False),
        dict(max_keep_ckpts=1, save_best='auto', rule='greater'),
        dict(interval=5, by_epoch=False, max_keep_ckpts=2),
        dict(save_best=['score', 'cost'], rule=['greater', 'less'], save_last=False, interval=9),
        dict(filename_tmpl='weights_{}.pth', save_begin=2),
    ],
    ids=lambda options: ' '.join(options),
)
def test_keeps_the_files_that_mmengine_keeps(tmp_path, options):
    kwargs = dict(epochs=4, scores=[0.1, 0.5, 0.3, 0.6])
    ours, theirs = tmp_path / 'ours', tmp_path / 'theirs'
    train(ours, checkpoint=dict(**options), **kwargs)
    train(theirs, checkpoint=dict(type='CheckpointHook', **options), **kwargs)

    assert checkpoints(ours) == checkpoints(theirs) != set()
    assert (ours / 'last_checkpoint').exists() == (theirs / 'last_checkpoint').exists()
    for name in checkpoints(ours):
        mine, expected = load(ours / name), load(theirs / name)
        assert mine.keys() == expected.keys()
        for key, value in expected['state_dict'].items():
            assert torch.equal(mine['state_dict'][key], value)
        kept = [x['message_hub']['runtime_info'].get('keep_ckpt_ids') for x in (mine, expected)]
        assert kept[0] == kept[1]


def test_auto_is_the_metric_over_all_classes(tmp_path):
    """``CocoMetric(classwise=True)`` names the classes first."""
    hook = HOOKS.build(dict(type='AtomicCheckpointHook', save_best='auto'))
    hook.before_train(train(tmp_path, epochs=1, scores=[0.1]))
    runner = train(tmp_path, epochs=1, scores=[0.1])
    for car, everything in ((0.9, 0.1), (0.5, 0.4)):
        metrics = {'coco/car_precision': car, 'coco/bbox_mAP': everything, 'coco/bbox_mAP_50': 0.0}
        hook.after_val_epoch(runner, metrics)
    assert hook.key_indicators == ['coco/bbox_mAP'] and hook.rules == ['greater']
    assert [path.name for path in tmp_path.glob('best_*')] == ['best_coco_bbox_mAP_epoch_1.pth']
    assert runner.message_hub.get_info('best_score') == 0.4


def test_a_metric_that_says_nothing_this_time(tmp_path, monkeypatch):
    """As CocoMetric beside another, where nothing has been found."""
    said = []
    monkeypatch.setattr(
        'mmdet_yolo2fl.engine.hooks.atomic_checkpoint_hook.print_log',
        lambda message, **_: said.append(message),
    )
    hook = HOOKS.build(dict(type='AtomicCheckpointHook', save_best='a/x', rule='greater'))
    runner = train(tmp_path, epochs=1, scores=[0.1])
    hook.before_train(runner)
    # A name that never comes.
    for metrics in ({'b/y': 0.5}, {'a/z': 0.5}):
        with pytest.raises(KeyError, match="save_best='a/x' is not among the metrics"):
            hook.after_val_epoch(runner, metrics)
    runner.val_loop.evaluator.metrics = [SimpleNamespace(prefix='a'), SimpleNamespace(prefix='b')]
    hook.after_val_epoch(runner, {'b/y': 0.5})
    assert said == ["save_best='a/x' is not among the metrics ['b/y'] this time"]
    assert not list(tmp_path.glob('best_*'))
    hook.after_val_epoch(runner, {'a/x': 0.1, 'b/y': 0.5})
    assert [path.name for path in tmp_path.glob('best_*')] == ['best_a_x_epoch_1.pth']


def test_processes_that_go_on_from_different_places_are_refused(tmp_path, monkeypatch):
    """As of two machines, of which one has the checkpoints."""
    monkeypatch.setattr(
        'mmdet_yolo2fl.engine.hooks.atomic_checkpoint_hook.all_gather_object',
        lambda place: [place, (0, 0)],
    )
    with pytest.raises(InterruptedRunError):
        train(tmp_path, epochs=2, hooks=(dict(type='InterruptHook', at_iter=6),))
    with pytest.raises(RuntimeError, match=r'different \(epoch, iteration\): .*\(0, 0\)'):
        train(tmp_path, epochs=2, resume=True)


def test_publishes_and_takes_a_folder_of_its_own(tmp_path):
    options = dict(out_dir=str(tmp_path / 'elsewhere'), published_keys=['state_dict'])
    train(tmp_path / 'run', epochs=1, checkpoint=options)
    assert (tmp_path / 'run/last_checkpoint').read_text() == str(
        tmp_path / 'elsewhere/run/epoch_1.pth'
    )
    (published,) = (tmp_path / 'elsewhere/run').glob('epoch_1-*.pth')
    assert load(published).keys() == {'state_dict'}


class Crash:
    """Stops at the n-th file operation; at a write with half of the file written."""

    def __init__(self, monkeypatch, at: int) -> None:
        self.at, self.count = at, 0
        for name in ('fsync', 'replace', 'remove'):
            monkeypatch.setattr(os, name, self.wrap(name, getattr(os, name)))

    def wrap(self, name, call):
        def operation(*args):
            self.count += 1
            if self.count > self.at:
                if name == 'fsync':
                    os.ftruncate(args[0], os.fstat(args[0]).st_size // 2)
                raise InterruptedRunError
            return call(*args)

        return operation


KEEP_ONE = dict(
    epochs=2,
    scores=[0.1, 0.5],
    checkpoint=dict(max_keep_ckpts=1, save_best='score', rule='greater'),
)


def test_a_crash_at_any_file_operation_leaves_a_whole_checkpoint(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        crash = Crash(patch, at=10**6)
        whole = train(tmp_path / 'whole', **KEEP_ONE)
    assert crash.count >= 20

    # Operation 4 ends the first save: the rename of `last_checkpoint`.
    for operation in range(4, crash.count):
        work_dir = tmp_path / str(operation)
        with monkeypatch.context() as patch, pytest.raises(InterruptedRunError):
            Crash(patch, at=operation)
            train(work_dir, **KEEP_ONE)
        last = Path((work_dir / 'last_checkpoint').read_text())
        checkpoint = load(last)
        best = checkpoint['message_hub']['runtime_info'].get('best_ckpt')
        assert best is None or load(best)

        if operation % 3 == 0:  # a few seconds less
            resumed = train(work_dir, resume=True, **KEEP_ONE)
            assert_same_weights(resumed.model, whole.model)


def test_images_seen_beside_an_average_of_the_weights(tmp_path):
    """Started from such a checkpoint, the pull to the priors does not begin anew."""
    train(tmp_path / 'first', epochs=1)
    content = load(tmp_path / 'first/epoch_1.pth')
    content['ema_state_dict'] = {'module.bbox_head.seen': torch.tensor(6150)}
    torch.save(content, tmp_path / 'averaged.pth')
    cfg = config(tmp_path / 'second', epochs=1)
    cfg.load_from = str(tmp_path / 'averaged.pth')
    runner = Runner.from_cfg(cfg)
    runner.train()
    assert runner.model.bbox_head.seen == 6150 + 8


def test_the_name_of_the_last_checkpoint_is_one_that_mmengine_reads(tmp_path, monkeypatch):
    """On Windows in the machine's own encoding."""
    monkeypatch.setattr(locale, 'getpreferredencoding', lambda *_: 'cp936')
    folder = tmp_path / '数据'
    train(folder, epochs=1)
    pointer = folder / 'last_checkpoint'
    assert pointer.read_text(encoding='cp936') == str(folder / 'epoch_1.pth')
    assert latest_whole_checkpoint(folder) == folder / 'epoch_1.pth'
    assert find_checkpoint(folder) == folder / 'epoch_1.pth'
    monkeypatch.setattr(locale, 'getpreferredencoding', lambda *_: 'ascii')
    train(tmp_path / 'é', epochs=1)
    assert read_pointer(tmp_path / 'é/last_checkpoint') == str(tmp_path / 'é/epoch_1.pth')


def test_atomic_backend_makes_folders_and_replaces(tmp_path):
    backend = get_file_backend(backend_args=dict(backend='atomic_local'))
    path = tmp_path / 'new' / 'file'
    backend.put_text('first', path)
    backend.put_text('zweite Fassung, größer', path)
    assert backend.get_text(path) == 'zweite Fassung, größer'
    assert os.listdir(path.parent) == ['file']
