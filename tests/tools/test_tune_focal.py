"""The search for focal-loss parameters, with trainings of seconds."""

import weakref
from copy import deepcopy
from pathlib import Path
from types import SimpleNamespace

import cv2
import pytest
import torch
from mmdet.evaluation import CocoMetric, VOCMetric
from mmdet.models import FocalLoss
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.hub import get_config
from mmengine.registry import init_default_scope

optuna = pytest.importorskip('optuna')

from mmdet_yolo2fl import tuning  # noqa: E402
from mmdet_yolo2fl.models import BalancedFocalLoss, EqualizedFocalLoss  # noqa: E402
from mmdet_yolo2fl.study import learning_curve  # noqa: E402
from tests.processes import context, exit_codes, start  # noqa: E402

from .conftest import load_tool  # noqa: E402

ROOT = Path(__file__).parents[2]
CONFIGS = ROOT / 'configs'


@pytest.fixture
def config(tmp_path, data_root):
    """A config whose training takes a second."""
    path = tmp_path / 'squares.py'
    path.write_text(
        f"""
_base_ = [
    '{CONFIGS}/_base_/models/yolov2_tiny_fl.py',
    '{CONFIGS}/_base_/default_runtime.py',
]
model = dict(
    data_preprocessor=dict(batch_augments=None),
    backbone=dict(widen_factor=0.0625),
    bbox_head=dict(in_channels=64, feat_channels=8, num_classes=2,
                   anchor_generator=dict(anchors=[(1, 1), (2, 2)])))
pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(type='Resize', scale=(64, 64), keep_ratio=False),
    dict(type='PackDetInputs',
         meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor')),
]
data = dict(type='CocoDataset', data_root='{data_root}', data_prefix=dict(img=''),
            metainfo=dict(classes=('red', 'blue')), pipeline=pipeline)
train_dataloader = dict(batch_size=2, num_workers=0, sampler=dict(type='DefaultSampler'),
                        dataset=dict(data, ann_file='train.json'))
val_dataloader = dict(batch_size=2, num_workers=0, sampler=dict(type='DefaultSampler'),
                      dataset=dict(data, ann_file='valid.json', test_mode=True))
val_evaluator = dict(type='CocoMetric', ann_file='{data_root}/valid.json')
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=2, val_interval=1)
val_cfg = dict(type='ValLoop')
optim_wrapper = dict(type='OptimWrapper', optimizer=dict(type='SGD', lr=0.001))
default_hooks = dict(checkpoint=None)
randomness = dict(seed=0)
"""
    )
    return path


def test_search_and_go_on(config, tmp_path, tool, capsys):
    out = tmp_path / 'tuned'
    arguments = [str(config), '--work-dir', str(out), '--seed', '0', '--startup', '2']
    tool('tune_focal')([*arguments, '--trials', '3'])
    said = capsys.readouterr().out
    assert 'Searching gamma, alpha, loss_weight of model.bbox_head.loss_obj' in said
    assert 'model=dict(bbox_head=dict(loss_obj=dict(' in said
    study = optuna.load_study(study_name='tuned', storage=f'sqlite:///{out}/study.db')
    assert len(study.trials) == 3
    # the control and the paper's choice come first
    assert [trial.params['gamma'] for trial in study.trials[:2]] == [0.0, 2.0]
    assert [trial.params['alpha'] for trial in study.trials[:2]] == [0.5, 0.25]
    # both with the weight of the config
    assert [trial.params['loss_weight'] for trial in study.trials[:2]] == [4.0, 4.0]
    # what a trial says is what its run was, and its log
    for trial in study.trials:
        curve = learning_curve(out / f'trial_{trial.number:04d}')
        assert [point['coco/bbox_mAP'] for point in curve] == [*trial.intermediate_values.values()]
        (used,) = (out / f'trial_{trial.number:04d}').glob('*.py')
        loss = Config.fromfile(used).model.bbox_head.loss_obj
        assert {key: loss[key] for key in trial.params} == trial.params
    assert 'metric' in study.best_trial.user_attrs

    tool('tune_focal')([*arguments, '--trials', '4'])
    assert '3 trials are done already' in capsys.readouterr().out
    study = optuna.load_study(study_name='tuned', storage=f'sqlite:///{out}/study.db')
    assert [trial.number for trial in study.trials] == [0, 1, 2, 3]
    results = (out / 'results.md').read_text()
    assert results.count('\n| ') == 5
    for name in ('history', 'slices', 'learning_curves'):
        assert cv2.imread(str(out / f'{name}.png')).std() > 5
    # finished: nothing more is trained
    tool('tune_focal')([*arguments, '--trials', '4'])
    assert not (out / 'trial_0004').exists()


def test_does_not_go_on_with_something_else(config, tmp_path):
    def study():
        return tuning.make_study('s', f'sqlite:///{tmp_path}/s.db', 2, 0)

    cfg = Config.fromfile(config)
    tuning.remember(study(), cfg, loss='loss_obj', metric=None)
    elsewhere = deepcopy(cfg)
    elsewhere.train_dataloader.dataset.data_root = '/elsewhere'
    elsewhere.train_dataloader.num_workers = 4
    tuning.remember(study(), elsewhere, loss='loss_obj', metric=None)
    # The whole data set in another folder, of which the evaluator speaks too.
    root = cfg.train_dataloader.dataset.data_root
    moved = Config.fromstring(cfg.pretty_text.replace(root, '/elsewhere/cells'), '.py')
    assert moved.val_evaluator.ann_file == '/elsewhere/cells/valid.json'
    tuning.remember(study(), moved, loss='loss_obj', metric=None)
    moved.val_evaluator.ann_file = '/elsewhere/cells/test.json'
    with pytest.raises(ValueError, match='another config: give another'):
        tuning.remember(study(), moved, loss='loss_obj', metric=None)
    # A misspelt metric has given no value yet.
    tuning.remember(study(), cfg, loss='loss_obj', metric='bbox_AP')
    tuning.remember(study(), cfg, loss='loss_obj', metric=None)
    study().add_trial(optuna.trial.create_trial(state=optuna.trial.TrialState.FAIL))
    tuning.remember(study(), cfg, loss='loss_obj', metric='bbox_AP')
    tuning.remember(study(), cfg, loss='loss_obj', metric=None)
    study().ask()  # of another process, that runs
    with pytest.raises(ValueError, match='another loss and metric: give another --work-dir'):
        tuning.remember(study(), cfg, loss='loss_cls', metric='coco/bbox_mAP')
    cfg.train_cfg.max_epochs = 50
    with pytest.raises(ValueError, match='another config: give another'):
        tuning.remember(study(), cfg, loss='loss_obj', metric=None)


def test_a_failed_trial_does_not_end_the_search(config, tmp_path, tool, capsys, monkeypatch):
    numbers, failing = [], [1, 2]

    def run_trial(trial, cfg, key, search, *_):
        numbers.append(trial.number)
        for name in search:
            trial.suggest_float(name, **tuning.SPACE[name])
        if trial.number in failing:
            raise torch.OutOfMemoryError('made')
        trial.report(0.1 * trial.number, 1)
        return 0.1 * trial.number

    monkeypatch.setattr(tuning, 'run_trial', run_trial)
    main = tool('tune_focal')

    def search(folder, trials=4):
        main([str(config), '--work-dir', str(tmp_path / folder), '--trials', str(trials)])
        return capsys.readouterr()

    said = search('two')
    assert numbers == [0, 1, 2, 3] and 'OutOfMemoryError: made' in said.err
    study = optuna.load_study(study_name='two', storage=f'sqlite:///{tmp_path}/two/study.db')
    assert [trial.state.name for trial in study.trials] == ['COMPLETE', 'FAIL', 'FAIL', 'COMPLETE']
    assert 'precision 0.3000 with' in said.out and '2 trials have failed' in said.out
    numbers.clear()
    for folder, numbers_failing, expected in (
        ('three', [1, 2, 3], [0, 1, 2, 3]),
        ('first', [0], [0]),
    ):
        failing[:] = numbers_failing
        with pytest.raises(torch.OutOfMemoryError):
            search(folder, 6)
        assert numbers == expected
        numbers.clear()


@pytest.mark.parametrize(
    'before, ends',
    [
        ('COMPLETE', False),
        ('COMPLETE FAIL RUNNING', False),
        ('COMPLETE FAIL RUNNING FAIL RUNNING', True),  # of another process
        ('FAIL PRUNED FAIL', False),
        ('RUNNING', True),
        ('', True),
    ],
)
def test_when_a_failure_ends_the_search(tool, monkeypatch, before, ends):
    parts, networks = tool('tune_focal').__globals__, []

    def run_trial(trial):
        network = torch.nn.Linear(2, 2)
        networks.append(weakref.ref(network))
        raise ValueError('made')

    monkeypatch.setattr(tuning, 'run_trial', run_trial)
    trials = [
        SimpleNamespace(number=number, state=optuna.trial.TrialState[name])
        for number, name in enumerate(before.split())
    ]
    study, trial = SimpleNamespace(trials=trials), SimpleNamespace(number=len(trials))
    with pytest.raises(ValueError if ends else parts['FailedTrialError'], match='made') as caught:
        parts['attempt'](study, trial)
    if not ends:  # nothing holds the network, while the next one is built
        assert caught.value.__context__ is None and networks[0]() is None


def test_what_the_user_has_misspelt_or_changed(config, tmp_path, tool, refused):
    main, out = tool('tune_focal'), tmp_path / 'tuned'
    arguments = [config, '--work-dir', out, '--trials', '1', '--search', 'gamma']
    text = refused(main, *arguments, '--metric', 'bbox_mAP')
    assert "--metric: the validation has no metric 'bbox_mAP'; it has [" in text
    main([str(one) for one in [*arguments, '--metric', 'coco/bbox_mAP']])
    text = refused(main, *arguments, 'alpha', '--metric', 'coco/bbox_mAP')
    assert 'trials have another search: give another --work-dir' in text


def test_a_refused_search_leaves_nothing(config, tmp_path, tool, refused):
    for epochs in (0, -1):
        assert 'at least 1' in refused(tool('tune_focal'), config, '--epochs', epochs)
    arguments = [config, '--work-dir', tmp_path / 'out', '--search', 'gamma']
    (tmp_path / 'out').mkdir()
    study = tuning.make_study('out', f'sqlite:///{tmp_path}/out/study.db', 5, 0)
    cfg = Config.fromfile(config)
    tuning.remember(study, cfg, loss='model.bbox_head.loss_obj', metric=None)
    other = ['--cfg-options', 'model.bbox_head.loss_obj.loss_weight=1.0']
    assert 'its 0 trials have another config' in refused(tool('tune_focal'), *arguments, *other)
    assert not study.trials


def test_alphas_of_each_class_are_left_alone(config):
    cfg = Config.fromfile(config)
    key = 'model.bbox_head.loss_obj'
    assert tuning.searched(cfg, key, ['gamma', 'alpha']) == ['gamma', 'alpha']
    cfg.model.bbox_head.loss_obj.alpha = [0.1, 0.3]
    assert tuning.searched(cfg, key, ['gamma', 'alpha']) == ['gamma']


def search(arguments, both_ready):
    main = load_tool('tune_focal')
    both_ready.wait(300)
    main(arguments)


def test_two_workers_share_a_study(config, tmp_path):
    out = tmp_path / 'tuned'
    arguments = [str(config), '--work-dir', str(out), '--trials', '3', '--startup', '2']
    both_ready = context().Barrier(2)
    assert exit_codes([start(search, arguments, both_ready) for _ in range(2)]) == [0, 0]
    study = optuna.load_study(study_name='tuned', storage=f'sqlite:///{out}/study.db')
    done = [t for t in study.trials if t.state.name in ('COMPLETE', 'PRUNED')]
    # A trial that was under way when the other finished the last one is not thrown away.
    assert 3 <= len(done) <= 4 and len(study.trials) == len(done)
    gammas = [trial.params['gamma'] for trial in study.trials]
    assert len(set(gammas)) == len(gammas) and {0.0, 2.0} <= set(gammas)
    # Neither has done all of them: one worker ends a trial before it begins the next.
    done.sort(key=lambda trial: trial.datetime_start)
    assert any(b.datetime_start < a.datetime_complete for a, b in zip(done, done[1:]))


def test_usage_errors(config, tmp_path, tool, refused):
    main = tool('tune_focal')
    out = ['--work-dir', str(tmp_path / 'out')]
    assert 'none.py' in refused(main, 'none.py', *out)
    assert 'at least 1' in refused(main, config, '--trials', '0', *out)
    message = refused(main, config, '--loss', 'loss_iou', *out)
    assert "no focal loss named loss_iou in the model; there are ['model.bbox_head" in message
    assert '--storage nonsense' in refused(main, config, '--storage', 'nonsense', *out)


def evaluated(*metrics):
    """A runner whose validation has these metrics."""
    return SimpleNamespace(val_loop=SimpleNamespace(evaluator=SimpleNamespace(metrics=metrics)))


def test_hopeless_trials_are_stopped(tmp_path):
    study = optuna.create_study(
        direction='maximize',
        pruner=optuna.pruners.MedianPruner(n_startup_trials=1, n_warmup_steps=0),
    )

    def objective(trial):
        hook = tuning.PruningHook(trial, None)
        for _ in range(3):
            hook.after_val_epoch(evaluated(), {'coco/bbox_mAP': 0.5 if trial.number == 0 else 0.1})
        return max(hook.values)

    study.optimize(objective, n_trials=2)
    states = [trial.state.name for trial in study.trials]
    assert states == ['COMPLETE', 'PRUNED']
    hook = tuning.PruningHook(study.ask(), 'accuracy')
    with pytest.raises(KeyError, match="no metric 'accuracy'.*bbox_mAP"):
        hook.after_val_epoch(evaluated(), {'coco/bbox_mAP': 0.5})
    with pytest.raises(KeyError, match='--metric'):
        tuning.first_precision({'accuracy': 1.0})
    for name in ('coco/bbox_mAP', 'coco/bbox_mAP_50', 'pascal_voc/mAP', 'mAP'):
        assert tuning.first_precision({'coco/maple_precision': 0.1, name: 0.2}) == name


def test_a_validation_without_boxes_is_a_precision_of_0():
    hook = tuning.PruningHook(optuna.create_study().ask(), 'coco/bbox_mAP')
    hook.after_val_epoch(evaluated(), {})
    hook.after_val_epoch(evaluated(), {'coco/bbox_mAP': 0.25})
    assert hook.values == [0.0, 0.25]


@pytest.mark.parametrize('metric', [None, 'coco/bbox_mAP'])
def test_trials_are_worth_the_same_metric(metric):
    """Where one finds no box at first, CocoMetric is silent, and VOCMetric beside it is not."""
    runner, both = evaluated(CocoMetric(), VOCMetric()), {'coco/bbox_mAP': 0.3, 'pascal_voc/mAP': 1}
    for first in (both, {'pascal_voc/mAP': 0.0}):
        hook = tuning.PruningHook(optuna.create_study().ask(), metric)
        hook.after_val_epoch(runner, first)
        hook.after_val_epoch(runner, both)
        assert hook.metric == 'coco/bbox_mAP' and max(hook.values) == 0.3
    with pytest.raises(KeyError, match="no metric 'coco/bbox_AP'"):
        tuning.PruningHook(optuna.create_study().ask(), 'coco/bbox_AP').after_val_epoch(
            runner, both
        )


def test_finds_the_loss_of_any_detector():
    cfg = Config(dict(model=dict(bbox_head=dict(loss_cls=dict(type='FocalLoss', gamma=2.0)))))
    assert tuning.find_loss(cfg) == ('model.bbox_head.loss_cls', FocalLoss)
    cfg.model.bbox_head.loss_obj = dict(type='BalancedFocalLoss')
    assert tuning.find_loss(cfg, 'loss_obj') == ('model.bbox_head.loss_obj', BalancedFocalLoss)
    # It has a beta, and no gamma.
    cfg.model.bbox_head = dict(loss_cls=dict(type='QualityFocalLoss'))
    with pytest.raises(ValueError, match='no focal loss'):
        tuning.find_loss(cfg)
    with pytest.raises(ValueError, match='no focal loss'):
        tuning.find_loss(Config(dict(model=dict(type='X'))))
    # Their gamma is no focusing.
    for loss in ('BalancedL1Loss', 'GaussianFocalLoss', 'EQLV2Loss'):
        with pytest.raises(ValueError, match='no focal loss'):
            tuning.find_loss(Config(dict(model=dict(head=dict(loss=dict(type=loss))))))


@pytest.mark.parametrize('file', sorted((CONFIGS / 'anywhere').glob('*.py')), ids=lambda f: f.stem)
def test_every_choice_of_every_detector_builds(file, tmp_path):
    cfg = Config.fromfile(file)
    init_default_scope('mmdet')
    loss_key, loss = tuning.find_loss(cfg)
    space = tuning.space_of(loss)
    first = tuning.first_trials(tuning.loss_at(cfg, loss_key), tuple(space), space)
    study = tuning.make_study('s', f'sqlite:///{tmp_path}/s.db', 2, 0)
    tuning.enqueue(study, first)
    tried = []
    for _ in range(3):
        trial = study.ask()
        chosen = {name: trial.suggest_float(name, **limits) for name, limits in space.items()}
        changed = cfg.copy()
        changed.merge_from_dict(tuning.changes(cfg, loss_key, chosen))
        model = MODELS.build(changed.model)
        found = dict(model.named_modules())[loss_key.removeprefix('model.')]
        gamma = getattr(found, 'base_gamma', found.gamma)
        assert float(gamma) == pytest.approx(chosen['gamma'])
        assigner = (changed.model.get('train_cfg') or {}).get('assigner') or {}
        for cost in assigner.get('match_costs') or ():
            if cost.type == 'FocalLossCost':
                assert (cost.gamma, cost.alpha) == (chosen['gamma'], chosen['alpha'])
        tried.append(chosen['gamma'])
        study.tell(trial, 0.1)
    assert tried[:2] == [0.0, 2.0] or (tried[0] == 2.0 and loss is EqualizedFocalLoss)


def test_stages_and_their_matching_move_together():
    cfg = get_config('mmdet::sparse_rcnn/sparse-rcnn_r50_fpn_1x_coco.py')
    loss_key, loss = tuning.find_loss(cfg, 'loss_cls')
    assert loss is FocalLoss
    cfg.merge_from_dict(tuning.changes(cfg, loss_key, dict(gamma=1.5, alpha=0.3, loss_weight=3.0)))
    for head, stage in zip(cfg.model.roi_head.bbox_head, cfg.model.train_cfg.rcnn):
        assert head.loss_cls == dict(
            type='FocalLoss', use_sigmoid=True, gamma=1.5, alpha=0.3, loss_weight=3.0
        )
        cost = stage.assigner.match_costs[0]
        assert cost == dict(type='FocalLossCost', gamma=1.5, alpha=0.3, weight=2.0)
    assert len(cfg.model.roi_head.bbox_head) == 6


def test_a_config_of_pure_python(tmp_path):
    """Its types are classes."""
    file = tmp_path / 'pure.py'
    file.write_text(
        'from mmengine.config import read_base\n'
        'from mmdet.models import FocalLoss, RetinaHead, RetinaNet\n'
        'model = dict(type=RetinaNet, bbox_head=dict(type=RetinaHead, num_classes=2,\n'
        '             in_channels=8, loss_cls=dict(type=FocalLoss, alpha=0.4)))\n'
    )
    cfg = Config.fromfile(file)
    loss_key, loss = tuning.find_loss(cfg)
    assert (loss_key, loss) == ('model.bbox_head.loss_cls', FocalLoss)
    first = tuning.first_trials(tuning.loss_at(cfg, loss_key), ['gamma', 'alpha'])
    assert first[-1] == dict(gamma=2.0, alpha=0.4)
    cfg.merge_from_dict(tuning.changes(cfg, loss_key, first[0]))
    assert MODELS.build(cfg.model.bbox_head).loss_cls.gamma == 0.0


def test_going_on_with_a_seed_tries_something_else(tmp_path):
    drawn, first = [], [dict(gamma=0.0), dict(gamma=2.0)]
    for _ in range(2):
        study = tuning.make_study('s', f'sqlite:///{tmp_path}/s.db', 9, 0)
        tuning.enqueue(study, first)
        for _ in range(4):
            trial = study.ask()
            drawn.append(trial.suggest_float('gamma', **tuning.SPACE['gamma']))
            study.tell(trial, 0.1)
    assert drawn[:2] == [0.0, 2.0] and len(set(drawn)) == len(drawn) == 8


def test_what_was_interrupted_is_tried_again(tmp_path):
    first = [dict(gamma=0.0), dict(gamma=2.0)]
    states = optuna.trial.TrialState

    def study():
        opened = tuning.make_study('s', f'sqlite:///{tmp_path}/s.db', 9, 0)
        tuning.enqueue(opened, first)
        return opened

    opened = study()
    opened.tell(opened.ask(), state=states.FAIL)
    opened = study()
    trials = [opened.ask() for _ in range(2)]
    tried = [trial.suggest_float('gamma', **tuning.SPACE['gamma']) for trial in trials]
    assert sorted(tried) == [0.0, 2.0]
    assert not study().get_trials(states=[states.WAITING])
    # What fails each time is not tried for ever.
    again = trials[tried.index(0.0)]
    opened.tell(again, state=states.FAIL)
    opened = study()
    opened.tell(opened.ask(), state=states.FAIL)
    assert not study().get_trials(states=[states.WAITING])


def test_first_trials():
    loss = Config(dict(loss=dict(type='BalancedFocalLoss', gamma=1.5, alpha=0.4))).loss
    everything = ['gamma', 'alpha', 'loss_weight']
    assert tuning.first_trials(loss, everything) == [
        dict(gamma=0.0, alpha=0.5, loss_weight=1.0),
        dict(gamma=2.0, alpha=0.25, loss_weight=1.0),
        dict(gamma=1.5, alpha=0.4, loss_weight=1.0),
    ]
    loss.alpha = [0.1, 0.3]
    assert tuning.first_trials(loss, ['gamma']) == [
        dict(gamma=0.0),
        dict(gamma=2.0),
        dict(gamma=1.5),
    ]
    assert len(tuning.first_trials(loss, everything)) == 2  # its own alpha is no number
    assert tuning.first_trials(loss, ['loss_weight']) == [dict(loss_weight=1.0)]
    adaptive = Config(dict(loss=dict(type='AutomatedFocalLoss'))).loss
    assert tuning.first_trials(adaptive, ['alpha', 'loss_weight']) == [
        dict(alpha=0.5, loss_weight=1.0),
        dict(alpha=0.25, loss_weight=1.0),
    ]
    loss.loss_weight = 100.0
    assert tuning.first_trials(loss, everything) == []


def test_no_control_is_advised_that_the_loss_refuses(config, tmp_path, tool, capsys):
    out, loss = ['--work-dir', str(tmp_path / 'out')], 'model.bbox_head.loss_obj'
    options = [f'{loss}.type=EqualizedFocalLoss', f'{loss}.num_classes=1']
    tool('tune_focal')([str(config), *out, '--trials', '1', '--cfg-options', *options])
    said = capsys.readouterr().out
    assert 'Train the best and the config as it was with several seeds' in said


def test_a_loss_that_finds_its_own_gamma(config, tmp_path, tool, refused):
    options = ['--cfg-options', 'model.bbox_head.loss_obj.type=AutomatedFocalLoss']
    out = ['--work-dir', str(tmp_path / 'out')]
    message = refused(tool('tune_focal'), config, '--search', 'gamma', *out, *options)
    assert 'AutomatedFocalLoss finds its own gamma; there are alpha, loss_weight' in message


def test_lines_to_paste():
    study = optuna.create_study(direction='maximize')
    study.enqueue_trial(dict(gamma=1.5))
    study.optimize(lambda trial: trial.suggest_float('gamma', 0, 5), n_trials=1)
    cfg = Config(dict(model=dict(bbox_head=dict(loss_cls=dict(type='FocalLoss')))))
    lines = tuning.best_lines(study, cfg, 'model.bbox_head.loss_cls')
    assert eval(lines.replace('model=', '', 1)) == dict(bbox_head=dict(loss_cls=dict(gamma=1.5)))
    detr = Config.fromfile(CONFIGS / 'anywhere/conditional_detr_r18_fl.py')
    lines = tuning.best_lines(study, detr, 'model.bbox_head.loss_cls')
    assert lines.startswith('# --cfg-options model.bbox_head.loss_cls.gamma=1.5 model.train_cfg')


def test_the_highest_value_is_the_best(tmp_path):
    study = tuning.make_study('s', f'sqlite:///{tmp_path}/s.db', 2, 0)
    space = dict(gamma=optuna.distributions.FloatDistribution(0, 5))
    for gamma, value in ((0.0, 0.3), (2.0, 0.6), (1.0, 0.1)):
        trial = optuna.trial.create_trial(
            params=dict(gamma=gamma), distributions=space, value=value
        )
        study.add_trial(trial)
    assert study.best_params == dict(gamma=2.0)


def test_a_trial_is_worth_its_best_validation(config, tmp_path, monkeypatch):
    class Visualizer:
        _instance_dict = {}

    hooks = []

    def work():
        for value in (0.1, 0.4, 0.2):
            hooks[-1].after_val_epoch(evaluated(), {'coco/bbox_mAP': value})

    runner = SimpleNamespace(visualizer=Visualizer(), register_hook=hooks.append, train=work)
    built = []
    monkeypatch.setattr(tuning.Runner, 'from_cfg', lambda cfg: built.append(cfg) or runner)
    trial, key = optuna.create_study(direction='maximize').ask(), 'model.bbox_head.loss_obj'
    cfg = Config.fromfile(config)
    # As a training that was resumed has dumped it; each trial begins anew.
    cfg.merge_from_dict(dict(resume=True, load_from='epoch_3.pth'))
    assert tuning.run_trial(trial, cfg, key, ['gamma'], None, tmp_path) == 0.4
    assert (built[0].resume, built[0].load_from) == (False, None)
    cfg.default_hooks = dict(checkpoint=dict(type='CheckpointHook', max_keep_ckpts=3))
    tuning.run_trial(trial, cfg, key, ['gamma'], None, tmp_path)
    saving = built[1].default_hooks.checkpoint
    assert (saving.max_keep_ckpts, saving.save_optimizer) == (1, False)
