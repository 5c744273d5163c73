import argparse
import json
import os
import pickle
import random
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmcv.transforms import Compose, TestTimeAug
from mmdet.datasets.transforms import PackDetInputs
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.registry import init_default_scope
from mmengine.runner import Runner

from mmdet_yolo2fl.command_line import _tell_of_schedule, add_config_options, read_config
from mmdet_yolo2fl.config_parts import leaves, unwrapped
from mmdet_yolo2fl.resizing import how_resized
from mmdet_yolo2fl.study_budget import with_epochs
from mmdet_yolo2fl.test_time_augmentation import use_tta
from tests.test_checkpoints import Hostile

ROOT = Path(__file__).parents[2]
CONFIG = """
_base_ = {base!r}
data = dict(
    split='train', num_images=4, image_size=(64, 64), data_root={data!r})
model = dict(
    backbone=dict(widen_factor=0.125),
    neck=dict(in_channels=(64, 128), out_channels=32, passthrough_channels=8),
    bbox_head=dict(in_channels=64, feat_channels=32),
    # The scores of a model that has seen four images.
    test_cfg=dict(score_thr=0.0, max_per_img=5),
)
train_dataloader = dict(batch_size=2, num_workers=0, persistent_workers=False, dataset=data)
val_dataloader = dict(batch_size=2, num_workers=0, persistent_workers=False, dataset=data)
test_dataloader = val_dataloader
train_cfg = dict(max_epochs=1, val_interval=1)
custom_hooks = []
log_level = 'WARNING'
"""


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp('tools')


@pytest.fixture(scope='module')
def config(folder):
    path = folder / 'tiny.py'
    base = str(ROOT / 'configs/yolov2_fl.py')
    path.write_text(CONFIG.format(base=base, data=str(folder / 'data')), encoding='utf-8')
    return path


@pytest.fixture
def in_folder(folder, monkeypatch):
    monkeypatch.chdir(folder)


def new_name():
    """Runs begun in the same second would share MMEngine's message hub."""
    return f'experiment_name=tiny_{random.SystemRandom().getrandbits(64)}'


@pytest.mark.parametrize('name', ['train', 'test'])
@pytest.mark.parametrize('error', [None, FloatingPointError('loss is nan')])
def test_processes_part_after_success_only(
    config, checkpoint, tool, tmp_path, monkeypatch, in_folder, name, error
):
    """NCCL waits for the others there, which wait for the one that has failed."""
    parted = []
    monkeypatch.setattr('torch.distributed.destroy_process_group', lambda: parted.append(True))

    def work(_):
        monkeypatch.setattr('torch.distributed.is_initialized', lambda: True)
        if error:
            raise error

    monkeypatch.setattr(Runner, name, work)
    given = [str(config)] + ([str(checkpoint)] if name == 'test' else [])
    with pytest.raises(FloatingPointError) if error else nullcontext():
        tool(name)([*given, '--work-dir', str(tmp_path), '--cfg-options', new_name()])
    assert parted == ([] if error else [True])


def test_flexible_runner(config, checkpoint, tool, refused, tmp_path, monkeypatch, in_folder):
    """MMEngine's way to FSDP and DeepSpeed builds the model only when it runs."""
    monkeypatch.delenv('TORCH_FORCE_WEIGHTS_ONLY_LOAD')
    work = ['--work-dir', str(tmp_path), '--cfg-options', 'runner_type=FlexibleRunner']
    # With the best one it saves the last one again, and then counts an epoch too many.
    train = [str(config), *work, 'default_hooks.checkpoint.save_best=None']
    tool('train')([*train, new_name(), f'load_from={checkpoint}'])
    tool('train')([*train, new_name(), 'train_cfg.max_epochs=2', '--resume'])
    last = tmp_path / 'epoch_2.pth'
    assert tool('test')([str(config), str(last), *work, new_name()])
    other = 'model.bbox_head.feat_channels=16'
    message = refused(tool('test'), config, last, *work, new_name(), other)
    assert 'does not fit the config' in message


def test_apples_gpu_is_left_alone(config, monkeypatch, capsys):
    """MMEngine takes it by itself, and then there is no NMS."""
    monkeypatch.setattr('mmengine.device.utils.DEVICE', 'mps')
    assert get_device() == 'mps'
    parser = argparse.ArgumentParser()
    read_config(argparse.Namespace(config=config, cfg_options=None), parser)
    assert get_device() == 'cpu' and 'no NMS' in capsys.readouterr().out


@pytest.fixture
def checkpoint(folder, config, tool, monkeypatch):
    """What a training of one epoch leaves, in the default work dir."""
    path = folder / 'work_dirs/tiny/epoch_1.pth'
    if not path.exists():
        monkeypatch.chdir(folder)
        tool('train')([str(config), '--cfg-options', new_name()])
    return path


def test_train_amp_resume(folder, config, checkpoint, tool, in_folder):
    first = torch.load(checkpoint, weights_only=False)
    assert first['meta']['iter'] == 2
    options = ['train_cfg.max_epochs=2', new_name()]
    more = ['--amp', '--auto-scale-lr', '--resume', '--cfg-options', *options]
    tool('train')([str(config), *more])
    last = torch.load(folder / 'work_dirs/tiny/epoch_2.pth', weights_only=False)
    assert (last['meta']['epoch'], last['meta']['iter']) == (2, 4)
    used = Config.fromstring(last['meta']['cfg'], '.py')
    assert used.optim_wrapper.type == 'YOLOV2AmpOptimWrapper'
    assert used.auto_scale_lr == dict(base_batch_size=4, enable=True)

    # A given checkpoint goes before the latest of the work dir.
    other = ['--work-dir', 'other', '--resume', str(checkpoint), '--cfg-options', *options]
    tool('train')([str(config), *other])
    assert (folder / 'other/epoch_2.pth').exists()
    assert not (folder / 'other/epoch_1.pth').exists()


def test_resume_where_there_is_nothing_to_resume(config, checkpoint, tool, tmp_path, capsys):
    """As a script starts that is to be killed: from what the config starts from."""
    more = ['--work-dir', str(tmp_path), '--resume', '--cfg-options', new_name()]
    tool('train')([str(config), *more, f'load_from={checkpoint}'])
    assert f'Nothing to resume in {tmp_path}: starts from {checkpoint}' in capsys.readouterr().out
    last = torch.load(tmp_path / 'epoch_1.pth', weights_only=False)
    used = Config.fromstring(last['meta']['cfg'], '.py')
    assert used.load_from == str(checkpoint) and not used.resume
    assert last['meta']['iter'] == 2


def test_test_out_show_dir_tta(folder, config, checkpoint, tool, in_folder):
    common = [str(config), str(checkpoint)]
    main = tool('test')
    out = ['--out', 'found.pkl', '--show-dir', 'drawn', '--work-dir', 'tested']
    plain = main([*common, *out, '--cfg-options', new_name()])
    assert len(pickle.loads((folder / 'found.pkl').read_bytes())) == 4
    assert len(list((folder / 'tested').glob('*/drawn/*'))) == 4
    # The training's config stays what tools/analyze.py finds there.
    work_dir = folder / 'work_dirs/tiny'
    before = {path: path.read_bytes() for path in work_dir.glob('*.py')}
    assert before
    options = [new_name(), 'model.test_cfg.score_thr=0.001']
    flipped = main([*common, '--tta', '--cfg-options', *options])
    assert {path: path.read_bytes() for path in work_dir.glob('*.py')} == before
    assert plain.keys() == flipped.keys() and 'coco/bbox_mAP_50' in plain


@pytest.mark.parametrize('name', ['train', 'test'])
def test_the_annotations_of_the_evaluation_are_looked_at_first(
    config, checkpoint, tool, refused, tmp_path, name
):
    file = tmp_path / 'mine.json'
    image = dict(id=1, file_name='none.jpg', width=60, height=40)
    box = dict(id=1, image_id=1, category_id=1, bbox=[0, 0, 9, 9], area=81, iscrowd=0)
    names = ('car', 'truck', 'pedestrian', 'cyclist')
    categories = [dict(id=number, name=name) for number, name in enumerate(names, 1)]
    file.write_text(json.dumps(dict(images=[image], annotations=[box], categories=categories)))
    mine = tmp_path / 'mine.py'
    mine.write_text(
        f'_base_ = {str(config)!r}\n'
        f'data = dict(_delete_=True, type="CocoDataset", ann_file={str(file)!r}, pipeline=[],'
        f' metainfo=dict(classes={names}))\n'
        'val_dataloader = dict(dataset=data)\ntest_dataloader = dict(dataset=data)\n'
    )
    args = [mine, *([checkpoint] if name == 'test' else []), '--work-dir', tmp_path / 'out']
    assert f'{file}' in (message := refused(tool(name), *args)) and 'none.jpg' in message
    assert not list(tmp_path.rglob('*.pth'))


def test_tta_views():
    """The plain image comes first; what the config packs, wrappers or not, stays packed."""
    pack = dict(type='PackDetInputs', meta_keys=('img_id', 'instances'))
    leaf = dict(pipeline=[dict(type='LoadImageFromFile'), pack])
    cfg = Config(
        dict(model=dict(type='M'), test_dataloader=dict(dataset=dict(type='R', dataset=leaf)))
    )
    use_tta(cfg)
    load, augment = cfg.test_dataloader.dataset.dataset.pipeline
    flips, (packed,) = augment.transforms
    assert load.type == 'LoadImageFromFile'
    assert [flip.prob for flip in flips] == [0.0, 1.0]
    assert {'instances', 'flip', 'flip_direction', 'scale_factor'} <= {*packed.meta_keys}
    assert (cfg.model.type, cfg.model.module.type) == ('DetTTAModel', 'M')
    # Those that it inherits, of a data set whose metric reads the truths elsewhere, too.
    view = [dict(type='mmdet.PackDetInputs', meta_keys=('flip',))]
    views = [dict(type='TestTimeAug', transforms=[[dict(type='RandomFlip')], view])]
    cfg = Config(dict(model=dict(type='M'), test_dataloader=dict(dataset=leaf), tta_pipeline=views))
    use_tta(cfg)
    (augment,) = cfg.test_dataloader.dataset.pipeline
    assert augment.transforms[1][0].meta_keys == ('flip', 'instances')
    assert cfg.tta_pipeline[0].transforms[1][0].meta_keys == ('flip',)
    # In configs of pure Python types are classes.
    view[0]['type'], views[0]['type'] = PackDetInputs, TestTimeAug
    cfg = Config(dict(model=dict(type='M'), test_dataloader=dict(dataset=leaf), tta_pipeline=views))
    use_tta(cfg)
    (augment,) = cfg.test_dataloader.dataset.pipeline
    assert augment.transforms[1][0].meta_keys == ('flip', 'instances')


def test_flips_come_before_a_padding(tmp_path):
    """Or the boxes would be turned back by the width without it."""
    cv2.imwrite(str(tmp_path / 'a.png'), np.zeros((200, 100, 3), np.uint8))
    steps = [
        dict(type='LoadImageFromFile'),
        dict(type='LoadAnnotations', with_bbox=True),
        dict(type='Resize', scale=(208, 208), keep_ratio=True),
        dict(type='Pad', size=(208, 208)),
        dict(type='PackDetInputs'),
    ]
    cfg = Config(
        dict(model=dict(type='M'), test_dataloader=dict(dataset=dict(type='D', pipeline=steps)))
    )
    use_tta(cfg)
    box = dict(bbox=[20, 10, 60, 50], bbox_label=0, ignore_flag=0)
    init_default_scope('mmdet')
    pipeline = Compose(cfg.test_dataloader.dataset.pipeline)
    views = pipeline(dict(img_path=str(tmp_path / 'a.png'), instances=[box], height=200, width=100))
    assert [image.shape for image in views['inputs']] == [(3, 208, 208)] * 2
    (left, _, right, _), (mirrored_left, _, mirrored_right, _) = (
        (one.gt_instances.bboxes.tensor / one.scale_factor[0]).tolist()[0]
        for one in views['data_samples']
    )
    assert (left, right) == pytest.approx((20, 60))
    # DetTTAModel turns them back within the photo.
    assert (100 - mirrored_right, 100 - mirrored_left) == pytest.approx((20, 60))


def test_views_of_another_size_than_the_test(recwarn):
    """As of configs that change the test pipeline and inherit the views."""
    use_tta(Config.fromfile(ROOT / 'configs/bccd/yolov2_fl.py'))
    assert not recwarn.list
    cfg = Config.fromfile(ROOT / 'configs/study/bccd_final.py')
    with pytest.warns(
        UserWarning, match=r'resizes to \(416, 416\), stretch, .* \(480, 384\), stretch:'
    ):
        use_tta(cfg.copy())
    cfg.tta_pipeline = None
    use_tta(cfg)
    assert cfg.test_dataloader.dataset.pipeline[1].scale == (480, 384)
    assert cfg.test_dataloader.dataset.pipeline[-1].type == 'TestTimeAug'
    # Of the same size, but in another way.
    cfg = Config.fromfile(ROOT / 'configs/voc0712/yolov2_faithful.py')
    use_tta(cfg.copy())
    cfg.test_dataloader.dataset.pipeline[1].letterbox = False
    with pytest.warns(UserWarning, match=r'\(416, 416\), letterbox, .* \(416, 416\), stretch:'):
        use_tta(cfg)


def test_a_test_set_of_parts():
    leaf = dict(pipeline=[dict(type='Resize', scale=(64, 96)), dict(type='PackDetInputs')])
    parts = [dict(leaf), dict(type='RepeatDataset', dataset=dict(leaf))]
    both = dict(type='ConcatDataset', datasets=parts)
    cfg = Config(dict(model=dict(type='M'), test_dataloader=dict(dataset=both)))
    assert unwrapped(cfg.test_dataloader.dataset) == leaf
    assert how_resized(cfg)['resize'] == 'stretch'
    use_tta(cfg)
    pipelines = [one.pipeline for one in leaves(cfg.test_dataloader.dataset)]
    assert pipelines[0] == pipelines[1] and pipelines[0][-1].type == 'TestTimeAug'
    pipelines[0][0].scale = (1, 2)
    with pytest.raises(ValueError, match='parts of the test set have several pipelines'):
        unwrapped(cfg.test_dataloader.dataset)


def test_a_variable_of_a_config_is_named(tmp_path, capsys, data_root):
    """Its parts have been made of it: the option would do nothing, and nobody would say so."""
    for option, is_told in (('max_epochs=2', True), ('train_cfg.max_epochs=2', False)):
        arguments = [str(ROOT / 'configs/bccd/yolov2_fl.py'), '--cfg-options', option]
        parser = argparse.ArgumentParser()
        parser.add_argument('config')
        add_config_options(parser)
        cfg = read_config(parser.parse_args(arguments), parser)
        assert cfg.train_cfg.max_epochs == (80 if is_told else 2)
        assert ('a variable of the config' in capsys.readouterr().err) == is_told


@pytest.mark.parametrize(
    'name, epochs, options, expected',
    [
        ('yolov2_fl', 6, [], ['param_scheduler.1.end=6', 'param_scheduler.1.T_max=6']),
        ('yolov2_fl', 6, ['param_scheduler.1.end=6'], []),
        ('yolov2_fl', 3, [], []),
        (
            'baselines/bccd_yolox_tiny',
            80,
            ['custom_hooks.4.num_last_epochs=2'],
            ['param_scheduler.1.end=80'],
        ),
        (
            'voc0712/yolov2',
            80,
            [],
            ['param_scheduler.1.end=80', 'param_scheduler.1.milestones=[30,45]'],
        ),
        (
            'baselines/bccd_yolox_tiny',
            80,
            [],
            [
                *('param_scheduler.1.end=80', 'param_scheduler.1.T_max=80'),
                'custom_hooks.4.num_last_epochs=2',
            ],
        ),
    ],
)
def test_a_schedule_that_stays_behind_is_named(name, epochs, options, expected, capsys):
    def read(*options):
        parser = argparse.ArgumentParser()
        parser.add_argument('config')
        add_config_options(parser)
        arguments = [str(ROOT / f'configs/{name}.py'), '--cfg-options', *options]
        return read_config(parser.parse_args(arguments), parser)

    changed = [f'train_cfg.max_epochs={epochs}', *options]
    cfg = read(*changed)
    said = capsys.readouterr().err
    assert bool(said) == bool(expected) and {*expected} <= {*said.split()}
    if expected:  # what is advised, is what a study does
        whole = with_epochs(Config.fromfile(cfg.filename), epochs)
        advised = read(*changed, *said.partition('along: ')[2].split())
        assert advised.param_scheduler == whole.param_scheduler
        if not any('custom_hooks' in option for option in options):
            assert advised.get('custom_hooks') == whole.get('custom_hooks')


@pytest.mark.parametrize(
    'epochs, ends, advice',
    [
        (
            30,
            [(0, 5), (5, 285), (285, 300)],
            'param_scheduler.0.end=1 param_scheduler.1.begin=1 param_scheduler.1.end=28 '
            'param_scheduler.2.begin=28 param_scheduler.2.end=30',
        ),
        (3, [(0, 150), (150, 152), (152, 300)], 'nothing but a config of your own'),
    ],
)
def test_schedulers_that_follow_one_another(epochs, ends, advice, capsys):
    schedulers = [dict(type='ConstantLR', begin=begin, end=end) for begin, end in ends]
    train = dict(max_epochs=epochs)
    _tell_of_schedule(Config(dict(train_cfg=train, param_scheduler=schedulers)), 300)
    assert f'What moves it along: {advice}' in capsys.readouterr().err


@pytest.mark.parametrize(
    'scheduler',
    ['LinearLR', dict(type='LinearLR', end=float('inf')), dict(type='ExponentialLR')],
    ids=str,
)
def test_of_a_schedule_that_mmengine_refuses_nothing_is_said(scheduler, capsys):
    cfg = Config(dict(train_cfg=dict(max_epochs=6)))
    cfg.param_scheduler = [scheduler]
    _tell_of_schedule(cfg, 3)
    assert not capsys.readouterr().err


@pytest.mark.parametrize('accumulated', [1, 2])
def test_what_is_accumulated_does_not_count_for_the_learning_rate(
    config, tool, capsys, accumulated
):
    options = [f'optim_wrapper.accumulative_counts={accumulated}']
    with pytest.raises(SystemExit):  # before the training begins
        tool('train')(
            [str(config), '--auto-scale-lr', '--resume', 'gone.pth', '--cfg-options', *options]
        )
    said = capsys.readouterr().err
    assert ('accumulative_counts=2 is not counted' in said) == (accumulated == 2)


def test_show_dir_refuses_images_of_one_name(tool, refused):
    """MMDetection's hook would write one picture over the other."""
    refuse_equal_names = tool('test').__globals__['refuse_equal_names']
    paths = ['a/1.jpg', 'b/1.jpg', 'a/2.jpg']

    class Data(list):
        def get_data_info(self, index):
            return dict(img_path=self[index])

    parser = argparse.ArgumentParser()
    refuse_equal_names(Data([*paths[1:], paths[1]]), parser)
    refuse_equal_names(Data([None, None]), parser)
    text = refused(lambda _: refuse_equal_names(Data(paths), parser))
    assert '--show-dir: 1 names of images, as 1.jpg, stand for several' in text


def test_bad_arguments(config, tool, refused, tmp_path):
    train, test = tool('train'), tool('test')
    assert 'nowhere.py' in refused(train, 'nowhere.py')
    assert 'gone.pth does not exist' in refused(train, config, '--resume', 'gone.pth')
    assert 'base_batch_size' in refused(
        train, config, '--auto-scale-lr', '--cfg-options', 'auto_scale_lr={}'
    )
    other = 'optim_wrapper.type=MyOptimWrapper'
    assert 'MyOptimWrapper' in refused(train, config, '--amp', '--cfg-options', other)
    plain = 'optim_wrapper.type=OptimWrapper'
    assert 'leave one out' in refused(train, config, '--amp', '--cfg-options', plain)
    assert 'nowhere.py' in refused(test, 'nowhere.py', 'x.pth')
    assert 'gone.pth does not exist' in refused(test, config, 'gone.pth')
    assert '.pkl' in refused(test, config, 'gone.pth', '--out', 'a.json')
    torch.save(dict(state_dict={}), tmp_path / 'empty.pth')
    no_hook = ['--show-dir', 'x', '--cfg-options', 'default_hooks={}']
    assert 'DetVisualizationHook' in refused(test, config, tmp_path / 'empty.pth', *no_hook)


def test_hostile_checkpoint_never_runs(config, tool, refused, tmp_path):
    mark = tmp_path / 'mark'
    hostile = tmp_path / 'hostile.pth'
    torch.save(dict(state_dict={}, meta=Hostile(mark)), hostile)
    (tmp_path / 'last_checkpoint').write_text(str(hostile))
    for message in (
        refused(tool('test'), config, hostile),
        refused(tool('train'), config, '--resume', hostile),
        refused(tool('train'), config, '--resume', '--work-dir', tmp_path),
        refused(tool('train'), config, '--cfg-options', f'load_from={hostile}'),
    ):
        assert 'hostile.pth: made by untrusted pickle' in message
    assert not mark.exists()


@pytest.mark.skipif(sys.platform == 'win32', reason='a shell script')
@pytest.mark.skipif(torch.cuda.is_available(), reason='on a GPU it takes a GPU for each process')
def test_two_processes(folder, config, checkpoint):
    env = dict(
        os.environ,
        PYTHON=sys.executable,
        PYTHONPATH=os.pathsep.join([str(ROOT), *sys.path]),
        PORT=str(random.SystemRandom().randrange(20000, 60000)),
        OMP_NUM_THREADS='1',
    )
    command = [ROOT / 'tools/dist_train.sh', config, '2', '--work-dir', 'two', '--cfg-options']
    options = ['train_cfg.val_interval=9', 'train_dataloader.batch_size=1']
    run = subprocess.run(
        ['bash', *command, *options], cwd=folder, env=env, capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr[-3000:]
    # Each of the two has seen half of the four images, one at a time.
    meta = torch.load(folder / 'two/epoch_1.pth', weights_only=False)['meta']
    assert meta['iter'] == 2

    # And so has each in a test, of which one process makes a file of all four.
    command = [ROOT / 'tools/dist_test.sh', config, checkpoint, '2', '--work-dir', 'both']
    run = subprocess.run(
        ['bash', *command, '--out', 'both.pkl'], cwd=folder, env=env, capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr[-3000:]
    found = pickle.loads((folder / 'both.pkl').read_bytes())
    assert len({one['img_id'] for one in found}) == len(found) == 4
    assert not list((folder / 'both').rglob('*.pth'))


@pytest.mark.parametrize('name', ['dist_train.sh', 'dist_test.sh'])
@pytest.mark.skipif(sys.platform == 'win32', reason='a shell script')
def test_launchers_explain_themselves(name):
    run = subprocess.run(['bash', ROOT / 'tools' / name], capture_output=True, text=True)
    assert run.returncode == 2
    assert 'CONFIG' in run.stderr and 'MASTER_ADDR' in run.stderr


@pytest.mark.parametrize('name', ['train', 'test', 'cluster_anchors'])
def test_without_the_package(name, tmp_path):
    """From a checkout where nothing is installed: one sentence that says what to do."""
    command = [sys.executable, '-I', '-S', ROOT / f'tools/{name}.py']
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert run.returncode == 1
    assert run.stderr.splitlines() == [
        'The package is not installed in this Python: `source .venv/bin/activate` after '
        '`make env` in its checkout, or `pip install -e .` there'
    ]


def test_bad_configs_and_options(config, tool, refused, tmp_path, monkeypatch):
    train, broken = tool('train'), tmp_path / 'broken.py'
    broken.write_text('model = dict(backbone=)')
    assert 'broken.py: SyntaxError' in refused(train, broken)
    options = ['--cfg-options', 'max_epochs.value=3']
    assert '--cfg-options does not fit' in refused(train, config, *options)
    message = refused(train, config, '--cfg-options', 'optim_wraper.optimizer.lr=0.1')
    assert "no 'optim_wraper'; did you mean 'optim_wrapper'?" in message
    monkeypatch.setattr('mmdet_yolo2fl.command_line.get_device', lambda: 'cpu')
    monkeypatch.delenv('RANK', raising=False)
    assert 'tools/dist_train.sh' in refused(train, config, '--launcher', 'pytorch')
    assert 'tools/dist_train.sh' in refused(train, config, '--launcher', 'slurm')
