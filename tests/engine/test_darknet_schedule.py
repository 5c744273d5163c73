"""Darknet's recipe in numbers: rates, sizes and counts, against loops over its equations."""

import random
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmdet.registry import HOOKS, MODELS, PARAM_SCHEDULERS
from mmdet.structures import DetDataSample
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.logging import MessageHub
from mmengine.optim import OptimWrapper, OptimWrapperDict
from mmengine.registry import init_default_scope
from mmengine.runner import Runner
from mmengine.structures import InstanceData
from tiny_run import assert_same_weights, config

CONFIGS = Path(__file__).parents[2] / 'configs'


def darknet_rate(update, lr, burn_in, power, steps, scale=0.1):
    """``get_current_rate`` of network.c at the k-th update, k = 1, 2, ..."""
    if update < burn_in:
        return lr * (update / burn_in) ** power
    return lr * scale ** sum(update >= step for step in steps)


def darknet_sizes(max_batches, draw, interval=10, final_batches=200, final_size=608):
    """The sizes of ``train_detector`` in detector.c, one a batch."""
    sizes = []
    for done in range(max_batches):
        if done % interval == 0:
            size = draw()
            if done + final_batches > max_batches:
                size = final_size
        sizes.append(size)
    return sizes


def build_schedulers(cfgs, lr=0.001):
    init_default_scope('mmdet')
    weights = [torch.nn.Parameter(torch.zeros(1)) for _ in range(2)]
    groups = [dict(params=[weights[0]]), dict(params=[weights[1]], lr=10 * lr)]
    optimizer = torch.optim.SGD(groups, lr=lr)
    return optimizer, [PARAM_SCHEDULERS.build(dict(cfg, optimizer=optimizer)) for cfg in cfgs]


def test_the_configs_rates_are_darknets_at_each_of_80200_updates():
    cfg = Config.fromfile(CONFIGS / 'voc0712' / 'yolov2_faithful.py')
    optimizer, schedulers = build_schedulers(cfg.param_scheduler)
    found = np.empty((80200, 2))
    optimizer.step()  # else the schedulers warn; there are no gradients
    for step in range(80200):
        found[step] = [group['lr'] for group in optimizer.param_groups]
        for scheduler in schedulers:
            scheduler.step()
    expected = [darknet_rate(k, 0.001, 1000, 4, (40000, 60000)) for k in range(1, 80201)]
    np.testing.assert_allclose(found[:, 0], expected, rtol=1e-9)
    np.testing.assert_allclose(found[:, 1], 10 * found[:, 0], rtol=1e-9)
    # Off by one would be a factor of ten here.
    assert found[39998, 0] == pytest.approx(1e-3) and found[39999, 0] == pytest.approx(1e-4)
    assert found[59998, 0] == pytest.approx(1e-4) and found[59999, 0] == pytest.approx(1e-5)


@pytest.mark.parametrize('burn_in, power', [(1, 4), (7, 1), (5, 2.5)])
def test_burn_in(burn_in, power):
    cfg = dict(type='BurnInLR', by_epoch=False, burn_in=burn_in, power=power)
    optimizer, (scheduler,) = build_schedulers([cfg])
    for update in range(1, 12):
        expected = darknet_rate(update, 0.001, burn_in, power, ())
        assert optimizer.param_groups[0]['lr'] == pytest.approx(expected, rel=1e-12)
        optimizer.step()
        scheduler.step()


@pytest.mark.parametrize('bad', [dict(burn_in=0), dict(burn_in=2.5), dict(power=0)])
def test_bad_burn_in(bad):
    with pytest.raises(ValueError, match=f'BurnInLR: {next(iter(bad))} must be'):
        build_schedulers([dict(type='BurnInLR', by_epoch=False, **bad)])


class WatchHook(Hook):
    """Notes the rate and the input of every iteration."""

    priority = 'VERY_LOW'

    def __init__(self) -> None:
        self.rates, self.sizes, self.weights = [], [], []

    def before_train(self, runner) -> None:
        runner.model.backbone.register_forward_pre_hook(self._note_size)

    def _note_size(self, module, inputs) -> None:
        if module.training:
            self.sizes.append(tuple(inputs[0].shape[-2:]))

    def before_train_iter(self, runner, *args, **kwargs) -> None:
        self.rates.append(runner.optim_wrapper.get_lr()['lr'][0])
        self.weights.append(runner.model.bbox_head.conv_pred.weight.detach().clone())


def run(work_dir, epochs=3, **kwargs):
    """4 iterations an epoch, 3 to an update; the rate burns in over 3 updates, falls at the 4th."""
    cfg = config(
        work_dir,
        epochs=epochs,
        optim_wrapper=dict(accumulative_counts=3, **kwargs.pop('optim_wrapper', {})),
        **kwargs,
    )
    cfg.param_scheduler = [
        dict(type='BurnInLR', by_epoch=False, burn_in=3, power=4),
        dict(type='MultiStepLR', by_epoch=False, milestones=[3], gamma=0.1),
    ]
    cfg.default_hooks.param_scheduler = dict(type='AccumulatedParamSchedulerHook')
    runner = Runner.from_cfg(cfg)
    watch = WatchHook()
    runner.register_hook(watch)
    runner.train()
    return runner, watch


def test_schedules_count_updates_under_accumulation(tmp_path):
    _, watch = run(tmp_path, epochs=4)  # 16 iterations: 5 updates, and one of the last alone
    expected = [darknet_rate(k, 0.01, 3, 4, (4,)) for k in (1, 2, 3, 4, 5, 6)]
    assert watch.rates == pytest.approx(np.repeat(expected, 3)[:16].tolist())
    changed = [not torch.equal(a, b) for a, b in zip(watch.weights, watch.weights[1:])]
    assert changed == [(i + 1) % 3 == 0 for i in range(15)]


def test_a_resumed_schedule_goes_on(tmp_path):
    whole, watch = run(tmp_path / 'whole', epochs=6)
    run(tmp_path / 'half', epochs=3)  # 12 iterations, 4 updates
    resumed, rest = run(tmp_path / 'half', epochs=6, resume=True)
    assert len(rest.rates) == 12
    assert rest.rates == watch.rates[12:]
    assert_same_weights(whole.model, resumed.model)


def test_an_update_of_several_optimizers_is_refused():
    hook = HOOKS.build(dict(type='AccumulatedParamSchedulerHook'))
    weight = torch.nn.Parameter(torch.zeros(1))
    wrappers = OptimWrapperDict(a=OptimWrapper(torch.optim.SGD([weight], lr=0.1)))

    class Several:
        optim_wrapper = wrappers

    with pytest.raises(TypeError, match='optim_wrapper is OptimWrapperDict'):
        hook.before_train(Several())


@pytest.mark.parametrize('count', [1, 4])
def test_schedules_converted_from_epochs_are_refused(count):
    """MMEngine converts them to mini-batches."""
    hook = HOOKS.build(dict(type='AccumulatedParamSchedulerHook'))
    weight = torch.nn.Parameter(torch.zeros(1))

    class Run:
        optim_wrapper = OptimWrapper(torch.optim.SGD([weight], lr=0.1), accumulative_counts=count)
        cfg = Config(dict(param_scheduler=[dict(type='LinearLR', by_epoch=False)]))

    hook.before_train(Run)
    for scheduler in (
        dict(type='CosineAnnealingLR', convert_to_iter_based=True),
        [dict(type='CosineAnnealingLR', convert_to_iter_based=True)],
    ):
        Run.cfg.param_scheduler = scheduler
        if count == 1:
            hook.before_train(Run)
            continue
        with pytest.raises(ValueError, match='CosineAnnealingLR.* has convert_to_iter_based'):
            hook.before_train(Run)


def resized(module, iteration, max_iters, size=(64, 64)):
    """A mini-batch of one image of ``size`` with one box over all of it."""
    hub = MessageHub.get_current_instance()
    hub.update_info('iter', iteration)
    hub.update_info('max_iters', max_iters)
    sample = DetDataSample(metainfo=dict(img_shape=size, pad_shape=size, batch_input_shape=size))
    box = torch.tensor([[0.0, 0.0, size[1], size[0]]])
    sample.gt_instances = InstanceData(bboxes=box, labels=torch.zeros(1))
    inputs, (sample,) = module(torch.zeros(1, 1, *size), [sample])
    assert sample.gt_instances.bboxes[0].tolist() == [0, 0, inputs.shape[3], inputs.shape[2]]
    return tuple(inputs.shape[-2:])


@pytest.mark.parametrize('accumulate', [1, 3])
@pytest.mark.parametrize('max_batches', [60, 65])
def test_sizes_are_darknets(accumulate, max_batches):
    module = MODELS.build(
        dict(
            type='DarknetBatchResize',
            random_size_range=(32, 320),
            accumulative_counts=accumulate,
            final_size=128,
            final_batches=25,
        )
    )
    random.seed(2)
    total = max_batches * accumulate
    found = [resized(module, iteration, total) for iteration in range(total)]

    random.seed(2)
    sizes = darknet_sizes(
        max_batches, lambda: random.randint(1, 10) * 32, final_batches=25, final_size=128
    )
    assert found == [(size, size) for size in np.repeat(sizes, accumulate)]
    assert len(set(sizes)) > 2 and sizes[-15:] == [128] * 15


def test_the_last_200_of_80200_batches():
    module = MODELS.build(dict(type='DarknetBatchResize', accumulative_counts=8))
    random.seed(0)
    hub = MessageHub.get_current_instance()
    hub.update_info('max_iters', 80200 * 8)
    # Darknet asks every tenth batch whether fewer than 200 are left: at 80000 it is not so yet.
    for batches_done, last in ((79990, False), (80000, False), (80010, True), (80190, True)):
        hub.update_info('iter', batches_done * 8 - 1)
        drawn = {module._get_random_size(1.0, torch.device('cpu')) for _ in range(99)}
        sizes = [608] if last else range(320, 609, 32)
        assert drawn == {(size, size) for size in sizes}


def test_sizes_keep_the_aspect_and_survive_a_resume():
    module = MODELS.build(
        dict(type='DarknetBatchResize', random_size_range=(64, 160), final_size=128)
    )
    height, width = resized(module, 0, 1000, size=(64, 128))
    assert width == 2 * height
    assert resized(module, 999, 1000, size=(64, 128)) == (height, width)
    module._input_size = (96, 192)  # as RandomStateHook sets it
    assert resized(module, 503, 1000, size=(64, 128)) == (96, 192)
    module._input_size = None
    assert resized(module, 990, 1000, size=(64, 96)) == (128, 192)


@pytest.mark.parametrize(
    'bad, message',
    [
        (dict(final_size=600), 'final_size must be a multiple of 32, got 600'),
        (dict(accumulative_counts=0), 'must be at least 1, got 10 and 0'),
    ],
)
def test_bad_sizes(bad, message):
    with pytest.raises(ValueError, match=message):
        MODELS.build(dict(type='DarknetBatchResize', **bad))


OBJECT = (
    '<object><name>{name}</name><difficult>{difficult}</difficult><bndbox><xmin>{}</xmin>'
    '<ymin>{}</ymin><xmax>{}</xmax><ymax>{}</ymax></bndbox></object>'
)


def write_voc(root, year, num_images=4):
    """A tree as VOCdevkit's, of noise with two boxes an image."""
    rng = np.random.default_rng(0)
    base = root / f'VOC{year}'
    for folder in ('JPEGImages', 'Annotations', 'ImageSets/Main'):
        (base / folder).mkdir(parents=True)
    names = [f'{number:06}' for number in range(num_images)]
    for name in names:
        height, width = rng.integers(60, 120, 2)
        image = rng.integers(0, 256, (height, width, 3)).astype(np.uint8)
        cv2.imwrite(str(base / 'JPEGImages' / f'{name}.jpg'), image)
        objects = OBJECT.format(5, 6, width - 9, height - 9, name='dog', difficult=0)
        objects += OBJECT.format(9, 9, 40, 30, name='cat', difficult=1)
        size = f'<size><width>{width}</width><height>{height}</height><depth>3</depth></size>'
        text = f'<annotation>{size}{objects}</annotation>'
        (base / 'Annotations' / f'{name}.xml').write_text(text)
    for split in ('trainval', 'test'):
        (base / 'ImageSets' / 'Main' / f'{split}.txt').write_text('\n'.join(names))


def test_the_config_trains_with_darknets_rates_and_sizes(tmp_path):
    write_voc(tmp_path, 2007)
    write_voc(tmp_path, 2012)
    cfg = Config.fromfile(CONFIGS / 'voc0712' / 'yolov2_faithful.py')
    assert cfg.train_dataloader.batch_size * cfg.optim_wrapper.accumulative_counts == 64
    assert cfg.train_cfg.max_iters == 80200 * cfg.optim_wrapper.accumulative_counts

    # The same parts, smaller: 2 mini-batches of 2 images a batch, 7 batches, 64 to 96 pixels.
    cfg.merge_from_dict(
        dict(
            work_dir=str(tmp_path / 'run'),
            experiment_name=f'darknet_{random.SystemRandom().getrandbits(64)}',
            log_level='WARNING',
            randomness=dict(seed=0),
            model=dict(
                backbone=dict(widen_factor=0.0625, init_cfg=None),
                neck=dict(in_channels=(32, 64), out_channels=32, passthrough_channels=8),
                bbox_head=dict(in_channels=64, feat_channels=16),
            ),
            train_cfg=dict(max_iters=14, val_interval=14),
            optim_wrapper=dict(accumulative_counts=2),
        )
    )
    cfg.model.data_preprocessor.batch_augments[0].update(
        random_size_range=(64, 96), interval=2, accumulative_counts=2, final_size=96
    )
    cfg.model.data_preprocessor.batch_augments[0].final_batches = 3
    cfg.param_scheduler[0].burn_in = 3
    cfg.param_scheduler[1].milestones = [3, 5]  # updates 4 and 6
    cfg.default_hooks.pop('visualization')
    datasets = cfg.train_dataloader.dataset.datasets + [
        cfg.val_dataloader.dataset,
        cfg.test_dataloader.dataset,
    ]
    for dataset in datasets:
        dataset.data_root = str(tmp_path)
        for transform in dataset.pipeline:
            if 'scale' in transform:
                transform.scale = (96, 96)
    for loader in (cfg.train_dataloader, cfg.val_dataloader, cfg.test_dataloader):
        loader.update(batch_size=2, num_workers=0, persistent_workers=False)

    runner = Runner.from_cfg(cfg)
    watch = WatchHook()
    runner.register_hook(watch)
    runner.train()

    expected = [darknet_rate(k, 0.001, 3, 4, (4, 6)) for k in range(1, 8)]
    assert watch.rates == pytest.approx(np.repeat(expected, 2).tolist())
    drawn = iter(watch.sizes[::4])
    sizes = darknet_sizes(7, lambda: next(drawn)[0], 2, 3, 96)
    assert watch.sizes == [(size, size) for size in np.repeat(sizes, 2)]
    assert sizes[-1] == 96 and {64, 96} >= set(sizes)
    changed = [not torch.equal(a, b) for a, b in zip(watch.weights, watch.weights[1:])]
    assert changed == [(i + 1) % 2 == 0 for i in range(13)]
    decays = {
        name: group['weight_decay']
        for group in runner.optim_wrapper.param_groups
        for name, value in runner.model.named_parameters()
        if any(value is p for p in group['params'])
    }
    for name, decay in decays.items():
        convolution = name.endswith('weight') and runner.model.get_parameter(name).ndim == 4
        assert decay == (0.0005 if convolution else 0), name
    # The validation at the end, through the letterbox.
    assert 0 <= runner.message_hub.get_scalar('val/pascal_voc/mAP').current() <= 1
