"""Darknet to MMDetection and back: the same bytes, the same options."""

import re
import struct
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.registry import PARAM_SCHEDULERS, DefaultScope

from mmdet_yolo2fl.darknet import darknet_to_mmdet, mmdet_to_darknet, to_darknet
from mmdet_yolo2fl.darknet.cfg import read_cfg
from mmdet_yolo2fl.darknet.network import read_network
from mmdet_yolo2fl.darknet.to_mmdet import class_names, mmdet_config
from mmdet_yolo2fl.darknet.weights import Header, convolutions, read_weights
from mmdet_yolo2fl.datasets.transforms import DarknetResize
from mmdet_yolo2fl.detector import load_detector

from . import networks

NARROW = dict(width=1 / 16, fine=64)
SMALL = {name: dict(options, **NARROW) for name, options in networks.NETWORKS.items()}
VOC = SMALL['yolov2-voc']
TINY = SMALL['yolov2-tiny-voc']
CONFIGS = Path(__file__).parents[2] / 'configs'


def options_of(path):
    """[net] and [region] of a cfg, as numbers where they are numbers."""
    sections = {section.name: section.options for section in read_cfg(path)}

    def value(text):
        try:
            return tuple(float(item) for item in text.split(','))
        except ValueError:
            return text

    return [
        {key: value(text) for key, text in sections[name].items()} for name in ('net', 'region')
    ]


def layers_of(path):
    return [(s.name, s.options) for s in read_cfg(path) if s.name not in ('net', 'region')]


def there_and_back(folder, name='model', seed=0, weights=None, **options):
    cfg, path = networks.write(folder, name, seed, weights, **options)
    config, checkpoint = darknet_to_mmdet(cfg, path, folder / 'mmdet')
    return (cfg, path), mmdet_to_darknet(config, checkpoint, folder / 'darknet')


@pytest.mark.parametrize('name', SMALL)
def test_round_trip(tmp_path, name):
    (cfg, weights), back = there_and_back(tmp_path, name, **SMALL[name])
    assert back[1].read_bytes() == weights.read_bytes()
    assert options_of(back[0]) == options_of(cfg)
    assert [layer for layer, _ in layers_of(back[0])] == [layer for layer, _ in layers_of(cfg)]
    assert networks.layer_sizes(back[0].read_text()) == networks.layer_sizes(cfg.read_text())
    assert len(back[2].read_text().splitlines()) == networks.NETWORKS[name].get('classes', 20)


@pytest.mark.parametrize(
    'options',
    [
        dict(fine=None),  # yolo-voc.2.0.cfg
        dict(reorg='reorg3d'),
        dict(layers=[*networks.DARKNET19, 1024]),  # no pass-through
        dict(layers=[*networks.DARKNET19, 1024, 512, 'pass', 256, 96]),  # widths of their own
        dict(layers=[*networks.TINY[:-1], 333, 100, 50], anchors='1,1', classes=1),
        # Cells of 16 pixels, and of 32 without the pooling of stride 1
        dict(layers=[*networks.DARKNET19[:-6], 512, 512, 'pass', 512], size=(432, 336)),
        dict(layers=[*networks.DARKNET19[:-6], 512]),
        dict(layers=[16, 'm', 32, 'm', 64, 'm', 256, 'm', 100, 333], size=(48, 80)),
        dict(layers=[*networks.TINY[:-2], 333]),
        dict(layers=[*networks.TINY[:-2], 512, 64, 'pass', 512], route=-5),
        dict(channels=1, activation='relu'),
        dict(batch_normalize=0),
        dict(size=(320, 224), region='nonsense_of_a_fork=1.5\n'),
        dict(region='focal_loss=1\n'),
    ],
    ids=str,
)
def test_round_trip_of_variations(tmp_path, options):
    (cfg, weights), back = there_and_back(tmp_path, **VOC | options)
    assert back[1].read_bytes() == weights.read_bytes()
    assert options_of(back[0]) == options_of(cfg)
    sizes = networks.layer_sizes(cfg.read_text())
    assert networks.layer_sizes(back[0].read_text()) == sizes


def test_what_a_cfg_leaves_out_stays_out(tmp_path):
    text = networks.cfg_text(**TINY)
    for line in ('softmax=1\n', 'bias_match=1\n', 'object_scale=5\n', 'thresh = 0.6\n'):
        text = text.replace(line, '')
    cfg, weights = networks.write(tmp_path, **TINY)
    cfg.write_text(text)
    config, checkpoint = darknet_to_mmdet(cfg, weights, tmp_path)
    model, _ = load_detector(Config.fromfile(config), checkpoint)
    head = model.bbox_head
    assert head.use_sigmoid_cls and head.object_scale == 1 and head.coord_prefill == 12800
    assert not head.assigner.bias_match and head.assigner.ignore_iou_thr == 0.5
    # softmax=0 came from a cfg, so it goes back into one
    back = mmdet_to_darknet(config, checkpoint, tmp_path / 'back')
    assert options_of(back[0]) == options_of(cfg)


@pytest.mark.parametrize(
    'header, length', [((0, 1, 0), 16), ((0, 2, 0), 20), ((0, 2, 5), 20), ((2, 0, 0), 20)]
)
def test_header_versions(tmp_path, header, length):
    seen = 2**40 + 7 if length == 20 else 12345
    text = networks.cfg_text(**TINY)
    data = networks.random_weights(text, header=header, seen=seen)
    (_, weights), back = there_and_back(tmp_path, weights=data, **TINY)
    assert back[1].read_bytes() == data
    found, values = read_weights(weights)
    assert found == Header(*header, seen)
    assert len(values) == (len(data) - length) / 4
    checkpoint = torch.load(tmp_path / 'mmdet' / 'model.pth', weights_only=True)
    assert checkpoint['state_dict']['bbox_head.seen'] == seen


def test_weights_lie_where_darknet_has_them(tmp_path):
    """The first and the last convolution, taken out of the file by hand."""
    cfg, weights = networks.write(tmp_path, **TINY)
    config, checkpoint = darknet_to_mmdet(cfg, weights, tmp_path)
    state = torch.load(checkpoint, weights_only=True)['state_dict']
    values = np.frombuffer(weights.read_bytes()[20:], '<f4')
    # one filter: bias, scale, mean, variance, 27 weights
    stem = 'backbone.stages.0.0.'
    names = ('bn.bias', 'bn.weight', 'bn.running_mean', 'bn.running_var')
    assert [state[stem + name].item() for name in names] == values[:4].tolist()
    np.testing.assert_array_equal(state[stem + 'conv.weight'].flatten(), values[4:31])
    last = state['bbox_head.conv_pred.weight']
    np.testing.assert_array_equal(last.flatten(), values[-last.numel() :])
    bias = state['bbox_head.conv_pred.bias']
    start = len(values) - last.numel() - bias.numel()
    np.testing.assert_array_equal(bias, values[start : start + bias.numel()])


def test_names_reach_the_inferencer(tmp_path):
    from mmdet.apis import DetInferencer

    cfg, weights = networks.write(tmp_path, **TINY | dict(classes=2, anchors='1,1,2,2'))
    (tmp_path / 'model.names').write_text('red cell\nplatelet ü\n', encoding='utf-8')
    config, checkpoint = darknet_to_mmdet(cfg, weights, tmp_path / 'out')
    inferencer = DetInferencer(str(config), str(checkpoint), device='cpu', palette='random')
    assert tuple(inferencer.model.dataset_meta['classes']) == ('red cell', 'platelet ü')
    image = np.random.default_rng(0).integers(0, 255, (48, 100, 3), dtype=np.uint8)
    found = inferencer(image, return_datasamples=True)['predictions'][0].pred_instances
    assert len(found) > 0
    limit = torch.tensor([100.0, 48.0, 100.0, 48.0])
    assert (found.bboxes >= 0).all() and (found.bboxes <= limit).all()


def test_names_that_could_be_code_stay_names(tmp_path):
    cfg, weights = networks.write(tmp_path, **TINY | dict(classes=2, anchors='1,1,2,2'))
    evil = ["'); raise SystemExit('executed')  #", '"""\\']
    names = tmp_path / 'evil.names'
    names.write_text('\n'.join(evil))
    config, checkpoint = darknet_to_mmdet(cfg, weights, tmp_path / 'out', names)
    loaded = Config.fromfile(config)
    assert list(loaded.test_dataloader.dataset.metainfo.classes) == evil
    names.write_text('{{ $HOME:x }}\nother')
    with pytest.raises(ValueError, match=r'evil.names.*\{\{'):
        darknet_to_mmdet(cfg, weights, tmp_path / 'out', names)
    text = cfg.read_text()
    for line in ("a'b=1", 'x={{fileDirname}}', 'import os'):
        cfg.write_text(text.replace('momentum=0.9', line))
        with pytest.raises(ValueError, match='model.cfg:8: expected option=value'):
            darknet_to_mmdet(cfg, weights, tmp_path / 'out')
    cfg.write_text(text.replace('decay=0.0005', "decay2='+__import__('os').abort()+'"))
    config, _ = darknet_to_mmdet(cfg, weights, tmp_path / 'out')
    assert Config.fromfile(config).darknet.net.decay2.startswith("'+__import__")


def test_a_config_without_a_file_needs_a_name(tmp_path):
    cfg, weights = networks.write(tmp_path, **TINY)
    config, checkpoint = darknet_to_mmdet(cfg, weights, tmp_path)
    config = Config(Config.fromfile(config).to_dict())
    with pytest.raises(ValueError, match='not read from a file needs a name'):
        mmdet_to_darknet(config, checkpoint, tmp_path / 'back')
    assert mmdet_to_darknet(config, checkpoint, tmp_path / 'back', name='a')[0].stem == 'a'


def test_torchs_order_becomes_reorg3d(tmp_path):
    """A pass-through in PyTorch's order, written for Darknet: the next convolution is permuted."""
    cfg, weights = networks.write(tmp_path, **VOC)
    config, checkpoint = darknet_to_mmdet(cfg, weights, tmp_path)
    config = Config.fromfile(config)
    config.model.neck.reorg = 'channel_major'
    torchs, _ = load_detector(config, checkpoint)
    back = mmdet_to_darknet(config, checkpoint, tmp_path / 'back', name='model')
    assert [name for name, _ in layers_of(back[0])].count('reorg3d') == 1
    config, checkpoint = darknet_to_mmdet(*back[:2], tmp_path / 'again')
    again, _ = load_detector(Config.fromfile(config), checkpoint)
    assert again.neck.reorg is not torchs.neck.reorg
    image = torch.rand(1, 3, 64, 96)
    with torch.no_grad():
        expected, found = (m.bbox_head(m.extract_feat(image))[0] for m in (torchs, again))
    torch.testing.assert_close(found, expected)


def test_another_epsilon_goes_into_the_variance(tmp_path):
    cfg, weights = networks.write(tmp_path, **TINY)
    config, checkpoint = darknet_to_mmdet(cfg, weights, tmp_path)
    config = Config.fromfile(config)
    model, _ = load_detector(config, checkpoint)
    state = dict(config.model.backbone.norm_cfg, eps=1e-3)
    config.model.backbone.norm_cfg = state
    other, _ = load_detector(config, checkpoint)
    back = mmdet_to_darknet(config, checkpoint, tmp_path / 'back', name='model')
    again = darknet_to_mmdet(*back[:2], tmp_path / 'again')
    same, _ = load_detector(Config.fromfile(again[0]), again[1])
    image = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        plain, expected, found = (
            m.bbox_head(m.extract_feat(image))[0] for m in (model, other, same)
        )
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    assert (plain - expected).abs().max() > 1e-4


def test_thresholds(tmp_path):
    cfg, weights = networks.write(tmp_path, **TINY)
    config, checkpoint = darknet_to_mmdet(cfg, weights, tmp_path)
    plain = mmdet_to_darknet(config, checkpoint, tmp_path / 'plain')
    opencv = mmdet_to_darknet(config, checkpoint, tmp_path / 'opencv', opencv_thresh=0.3)
    assert options_of(plain[0])[1]['thresh'] == (0.6,)
    assert options_of(opencv[0])[1]['thresh'] == (0.3,)


def test_the_converted_config_keeps_the_training_recipe(tmp_path):
    cfg, weights = networks.write(tmp_path, **VOC)
    config = Config.fromfile(darknet_to_mmdet(cfg, weights, tmp_path)[0])
    # `batch=1` is a cfg ready for testing: the batch of training is 64 in 8 parts
    assert config.train_dataloader.batch_size == 8
    assert config.optim_wrapper.accumulative_counts == 8
    assert config.train_cfg.max_iters == 80200 * 8
    assert config.optim_wrapper.optimizer == dict(
        type='SGD', lr=0.001, momentum=0.9, weight_decay=0.0005
    )
    assert [s.milestones for s in config.param_scheduler if 'milestones' in s] == [[39999], [59999]]
    hsv = next(t for t in config.train_pipeline if t.type == 'DarknetHSV')
    assert (hsv.hue, hsv.saturation, hsv.exposure) == (0.1, 1.5, 1.5)


def test_steps_before_the_first_batch(tmp_path):
    """yolov2-tiny-voc.cfg starts at a tenth of its rate: a step at -1."""
    cfg, weights = networks.write(tmp_path, **TINY)
    config = Config.fromfile(darknet_to_mmdet(cfg, weights, tmp_path)[0])
    # Its commented-out training lines: 64 in 2 parts
    assert config.train_dataloader.batch_size == 32
    assert config.optim_wrapper.accumulative_counts == 2
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.001)
    schedulers = [
        PARAM_SCHEDULERS.build(dict(scheduler, optimizer=optimizer))
        for scheduler in config.param_scheduler
    ]
    rates = {}
    for batch in range(1, 20001):
        rates[batch] = optimizer.param_groups[0]['lr']
        for scheduler in schedulers:
            scheduler.step()
    found = [rates[batch] for batch in (1, 99, 100, 19999, 20000)]
    assert found == pytest.approx([1e-4, 1e-4, 1e-3, 1e-3, 1e-4])


def test_a_step_within_the_burn_in(tmp_path):
    """Darknet looks at the steps only when the burn-in is over (get_current_rate)."""
    cfg, weights = networks.write(tmp_path, **VOC)
    text = edit(cfg.read_text(), 'burn_in=1000', 'burn_in=100')
    cfg.write_text(re.sub('steps=.*', 'steps=-1,50,200', text))
    cfg.write_text(re.sub('scales=.*', 'scales=.5,10,.1', cfg.read_text()))
    config = Config.fromfile(darknet_to_mmdet(cfg, weights, tmp_path)[0])
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.001)
    schedulers = [
        PARAM_SCHEDULERS.build(dict(scheduler, optimizer=optimizer))
        for scheduler in config.param_scheduler
    ]
    for batch in range(1, 250):
        rate = 0.001 * (batch / 100) ** 4
        if batch >= 100:
            rate = 0.001 * 0.5 * 10 * (0.1 if batch >= 200 else 1)
        assert optimizer.param_groups[0]['lr'] == pytest.approx(rate), batch
        for scheduler in schedulers:
            scheduler.step()


@pytest.fixture
def said(monkeypatch):
    """What the conversion says."""
    messages = []
    monkeypatch.setattr(
        'mmdet_yolo2fl.darknet.to_mmdet.print_log', lambda message, **_: messages.append(message)
    )
    return messages


def test_a_letterbox_that_a_cfg_asks_for(tmp_path):
    cfg, weights = networks.write(tmp_path, **TINY | dict(net='letter_box=1\n'))
    with pytest.raises(ValueError, match='letter_box=1: images come in a letterbox'):
        darknet_to_mmdet(cfg, weights, tmp_path / 'out', letterbox=False)
    config = Config.fromfile(darknet_to_mmdet(cfg, weights, tmp_path / 'out')[0])
    assert not config.model.bbox_head.coord_area_weight  # as in the fork, whose option it is


def test_options_of_training_that_forks_have(tmp_path, said):
    net = 'flip=0\nadam=1\nmosaic=0\nema_alpha=.999\nclip=5\n'
    cfg, weights = networks.write(tmp_path, **TINY | dict(net=net))
    config = Config.fromfile(darknet_to_mmdet(cfg, weights, tmp_path)[0])
    assert 'RandomFlip' not in [step.type for step in config.train_pipeline]
    for option in ('adam=1', 'ema_alpha=.999', 'clip=5'):
        assert [message for message in said if f'{option} is left out' in message]
    assert not [message for message in said if 'mosaic' in message]
    # A Tiny YOLOv2 that stands ready for testing.
    testing = 'batch=1 is for testing: the training recipe has batch=64, subdivisions=2'
    assert f'{cfg}: {testing}' in said and config.train_dataloader.batch_size == 32


def test_what_the_recipe_cannot_take_over_is_named(tmp_path, said):
    cfg, weights = networks.write(tmp_path, **VOC)
    text = edit(cfg.read_text(), 'policy=steps', 'policy=poly')
    text = edit(text, 'batch=1\nsubdivisions=1', 'batch=64\nsubdivisions=6')
    text = edit(text, 'saturation = 1.5', 'saturation=.75')
    text = edit(text, 'exposure = 1.5', 'exposure=0')
    text = text.replace('stride=1\npad=1', 'stride=1\npad=1\nstopbackward=1', 1)
    text = text.replace('batch_normalize=1', 'batch_normalize=2', 1)
    cfg.write_text(text)
    config = Config.fromfile(darknet_to_mmdet(cfg, weights, tmp_path)[0])
    line = text.splitlines().index('[convolutional]') + 1
    assert said[1:] == [  # after the names of the classes
        f'{cfg}: policy=poly is left out of the training recipe',
        f'{cfg}:{line}: [convolutional] stopbackward=1 is left out of the training recipe',
        f'{cfg}:{line}: batch_normalize=2 is left out of the training recipe',
        f'{cfg}: exposure=0 is left out of the training recipe',
    ]
    # Darknet divides integers, and takes a factor or its inverse.
    assert config.train_dataloader.batch_size == 10
    hsv = next(step for step in config.train_pipeline if step.type == 'DarknetHSV')
    assert (hsv.saturation, hsv.exposure) == (pytest.approx(1 / 0.75), 1)


def test_rates_and_stops_of_single_layers_are_named(tmp_path, said):
    cfg, weights = networks.write(tmp_path, **VOC)
    text = edit(cfg.read_text(), '[maxpool]', '[maxpool]\nstopbackward=1')
    text = edit(text, '[convolutional]', '[convolutional]\nlearning_rate=0')
    cfg.write_text(text)
    darknet_to_mmdet(cfg, weights, tmp_path)
    for option in ('[maxpool] stopbackward=1', '[convolutional] learning_rate=0'):
        assert len([message for message in said if f'{option} is left out' in message]) == 1


def test_darknets_short_names_of_sections(tmp_path):
    cfg, weights = networks.write(tmp_path, **TINY)
    expected = darknet_to_mmdet(cfg, weights, tmp_path / 'long')
    text = cfg.read_text().replace('[convolutional]', '[conv]').replace('[maxpool]', '[max]')
    cfg.write_text(text)
    found = darknet_to_mmdet(cfg, weights, tmp_path / 'short')
    assert [file.read_bytes() for file in found] == [file.read_bytes() for file in expected]


def test_the_recipe_of_a_wide_input(tmp_path):
    cfg, weights = networks.write(tmp_path, **TINY)
    text = cfg.read_text().replace('random=0', 'random=1')
    assert 'random=1' in text
    cfg.write_text(edit(text, 'height=416', 'height=320'))
    config = Config.fromfile(darknet_to_mmdet(cfg, weights, tmp_path)[0])
    jitter = next(step for step in config.train_pipeline if step.type == 'DarknetJitter')
    assert tuple(jitter.scale) == (768, 608)  # 608 * 416 / 320 = 790, to multiples of 32
    head = config.model.bbox_head
    assert head.normalizer == 'batch' and head.loss_obj == dict(type='MSELoss', loss_weight=0.5)


def test_comments_in_any_encoding(tmp_path):
    cfg, weights = networks.write(tmp_path, **TINY)
    content = cfg.read_bytes()
    cfg.write_bytes(b'# ' + '每批图片数'.encode('gbk') + b'\n' + content)
    assert darknet_to_mmdet(cfg, weights, tmp_path / 'out')[0].is_file()
    cfg.write_bytes(content + b'# \0')
    with pytest.raises(
        ValueError, match=f'byte {len(content) + 2} is no text, hence this is no cfg'
    ):
        darknet_to_mmdet(cfg, weights, tmp_path / 'out')


def test_training_and_testing_resize_alike(tmp_path):
    cfg, weights = networks.write(tmp_path, **TINY)

    def jitter(letterbox):
        config = Config.fromfile(
            darknet_to_mmdet(cfg, weights, tmp_path / 'out', letterbox=letterbox)[0]
        )
        return next(step for step in config.train_pipeline if step.type == 'DarknetJitter')

    assert jitter(letterbox=False).variant == 'alexeyab' and 'variant' not in jitter(letterbox=True)
    # Nor does that fork weight the boxes by their area.
    network = read_network(cfg)
    for letterbox in (True, False):
        config = mmdet_config(network, class_names(network), letterbox)
        assert config.model.bbox_head.coord_area_weight == letterbox
    cfg.write_text(cfg.read_text().replace('jitter=.2', 'jitter=.6'))
    jitter(letterbox=True)
    with pytest.raises(ValueError, match='jitter=.6: must be less than 0.5 where'):
        jitter(letterbox=False)


def test_the_test_pipeline_tells_the_input_size(converted):
    config, checkpoint, out = converted
    resize = next(step for step in config.test_dataloader.dataset.pipeline if 'scale' in step)
    # In configs of pure Python types are classes.
    resize.update(type=DarknetResize, scale=(64, 96))
    cfg, _, _ = mmdet_to_darknet(config, checkpoint, out / 'classes')
    assert (options_of(cfg)[0]['width'], options_of(cfg)[0]['height']) == ((64.0,), (96.0,))
    resize.update(type='Resize', scale=64)
    cfg, _, _ = mmdet_to_darknet(config, checkpoint, out / 'square')
    assert (options_of(cfg)[0]['width'], options_of(cfg)[0]['height']) == ((64.0,), (64.0,))
    inner = config.test_dataloader.dataset
    config.test_dataloader = dict(dataset=dict(type='ConcatDataset', datasets=[inner, inner]))
    cfg, _, _ = mmdet_to_darknet(config, checkpoint, out / 'parts')
    assert (options_of(cfg)[0]['width'], options_of(cfg)[0]['height']) == ((64.0,), (64.0,))
    config.test_dataloader = None
    with pytest.raises(ValueError, match='no Resize with a scale: give the input size'):
        mmdet_to_darknet(config, checkpoint, out / 'none')
    mmdet_to_darknet(config, checkpoint, out / 'given', input_size=(64, 96))


# From here on: what is refused.


def edit(text, old, new):
    assert old in text
    return text.replace(old, new, 1)


@pytest.mark.parametrize(
    'old, new, message',
    [
        ('[region]', '[yolo]', r'\[yolo\].*YOLOv3'),
        ('coords=4', 'coords=5', r':\d+: \[region\] coords=5'),
        ('softmax=1', 'softmax=1\ntree=data/9k.tree', r'tree=data/9k.tree: softmax trees'),
        ('softmax=1', 'softmax=1\nmap=data/coco9k.map', r'map='),
        ('softmax=1', 'softmax=1\nbackground=1', r'background=1'),
        ('softmax=1', 'softmax=1\nclassfix=-1', r'classfix=-1'),
        ('softmax=1', 'softmax=2', r'softmax=2: must be 0 or 1'),
        ('num=5', 'num=4', r'anchors'),
        ('num=5', 'num=five', r'num=five: must be an integer'),
        ('num=5', 'num=5\nnum=5', r'second time at line \d+; Darknet takes the first'),
        ('classes=20', 'classes=19', r'filters=125.*120 filters'),
        ('classes=20', 'classes=0', r'classes=0: must be at least 1'),
        ('1.3221', '-1.3221', r'anchors=-1.3221.*positive'),
        ('1.3221', 'nan', r'anchors.*finite'),
        ('1.3221', '416', r'grid cells'),
        ('thresh = 0.6', 'thresh = 6', r'thresh=6: must lie in 0..1'),
        ('object_scale=5', 'object_scale=inf', r'object_scale=inf: must be finite'),
        ('width=416', 'width=400', r'width=400: must be a multiple of 32'),
        ('width=416', 'width=0', r'width=0'),
        (
            '[maxpool]\nsize=2\nstride=2\n\n[convolutional]\nbatch_normalize=1\nfilters=64\n',
            '[maxpool]\nsize=2\nstride=1\n\n[convolutional]\nbatch_normalize=1\nfilters=64\n',
            r'\[maxpool\].*max-pooling of stride 2 as its layer 17',
        ),
        ('width=416\n', '', r'\[net\]: width= is missing'),
        ('channels=3', 'channels=4', r'channels=4'),
        ('[net]', '[nett]', r':1: \[nett\]: a cfg starts with \[net\]'),
        ('size=3\nstride=1', 'size=5\nstride=1', r'\[convolutional\] size=5'),
        ('size=3\nstride=1', 'size=3\nstride=2', r'\[convolutional\] stride=2'),
        ('stride=1\npad=1', 'stride=1\npad=0', r'pad=1'),
        ('stride=1\npad=1', 'stride=1\npad=1\ngroups=2', r'groups=2'),
        ('filters=2\n', 'filters=-2\n', r'filters=-2'),
        ('filters=2\n', 'filters=99999999999\n', r'filters=99999999999: must be at most'),
        ('activation=leaky', 'activation=mish', r'activation=leaky: all convolutions'),
        ('activation=linear', 'activation=leaky', r'activation=linear'),
        ('[maxpool]\nsize=2', '[maxpool]\nsize=3', r'\[maxpool\]'),
        ('[maxpool]', '[avgpool]', r'\[avgpool\]: a layer that YOLOv2 does not have'),
        ('[maxpool]\nsize=2\nstride=2\n', '', r'max-pooling of stride 2'),
        ('layers=-9', 'layers=-8', r'\[route\] layers=-8: leads to'),
        ('layers=-1,-4', 'layers=-4,-1', r'\[route\] layers=-4,-1'),
        ('[reorg]\nstride=2', '[reorg]\nstride=4', r'stride=4'),
        ('[reorg]\nstride=2', '[reorg]\nstride=2\nreverse=1', r'reverse=1'),
        ('scales=.1,.1', 'scales=.1', r'2 steps need as many scales'),
        ('steps=40000,60000', 'steps=60000,40000', r'steps=60000,40000: must be increasing'),
        ('width=416\n', 'width=32\n', r'random=1.*leave less than 32 of width'),
        ('stride=2\n', 'stride=2\nstride_x=1\n', r'\[maxpool\] stride_x=1'),
        ('layers=-9', 'layers=-9\ngroups=2', r'\[route\] groups=2'),
        ('stride=1\npad=1', 'stride=1\npad=1\nshare_index=-1', r'share_index=-1'),
        ('batch=1\n', 'batch=0\n', r'batch=0: must be at least 1'),
        ('batch=1\nsubdivisions=1', 'batch=2\nsubdivisions=4', r'batch=2: must be at least subd'),
        ('burn_in=1000', 'burn_in=-1', r'burn_in=-1'),
        ('jitter=.2', 'jitter=2', r'jitter=2: must lie in 0..0.99'),
        ('saturation = 1.5', 'saturation=-1', r'saturation=-1: must lie in 0.001..inf'),
        ('learning_rate=0.001', 'learning_rate=-1', r'learning_rate=-1'),
        ('momentum=0.9', 'momentum=5', r'momentum=5: must lie in 0..1'),
    ],
)
def test_a_bad_cfg_is_refused_with_its_line(tmp_path, old, new, message):
    cfg, weights = networks.write(tmp_path, **VOC)
    text = edit(cfg.read_text(), old, new)
    cfg.write_text(text.replace('random=0', 'random=1') if 'random=1' in message else text)
    with pytest.raises(ValueError, match=message) as caught:
        darknet_to_mmdet(cfg, weights, tmp_path / 'out')
    assert f'{cfg}:' in str(caught.value)
    assert not (tmp_path / 'out').exists()


def test_a_cfg_without_layers_is_refused(tmp_path):
    cfg, weights = networks.write(tmp_path, **TINY)
    cfg.write_text('[net]\nwidth=416\nheight=416\n[region]\nclasses=1\nanchors=1,1\n')
    with pytest.raises(ValueError, match=r'model.cfg:4: \[region\]: there are no layers'):
        darknet_to_mmdet(cfg, weights, tmp_path / 'out')


def test_bad_weights_are_refused(tmp_path):
    cfg, weights = networks.write(tmp_path, **VOC)
    data = weights.read_bytes()
    lines = cfg.read_text().splitlines()
    last = max(i for i, line in enumerate(lines, 1) if line == '[convolutional]')

    def refused(content, message):
        weights.write_bytes(content)
        with pytest.raises(ValueError, match=message) as caught:
            darknet_to_mmdet(cfg, weights, tmp_path / 'out')
        assert str(weights) in str(caught.value)
        assert not (tmp_path / 'out').exists()

    count = (len(data) - 20) // 4
    refused(data[:-4], rf'too short.*line {last} needs the numbers .*has {count - 1}')
    refused(data + bytes(4), rf'too long.*need {count} numbers.*has {count + 1}')
    refused(data[:-2], 'cut off')
    refused(data[:20], 'no weights behind it')
    refused(data[:15], 'too short for the header')
    refused(b'', 'too short for the header')
    refused(b'\xff' * 64, 'no weights file')
    refused(data[:20] + struct.pack('<f', float('nan')) + data[24:], r'\.cfg:\d+: holds numbers')
    # the variances of the first convolution: behind bias, scale and mean of its 2 filters
    refused(data[:44] + struct.pack('<f', -1.0) + data[48:], 'negative variance')
    with pytest.raises(FileNotFoundError, match='docs/darknet.md'):
        darknet_to_mmdet(cfg, tmp_path / 'none.weights', tmp_path / 'out')
    with pytest.raises(FileNotFoundError, match='none.cfg'):
        darknet_to_mmdet(tmp_path / 'none.cfg', weights, tmp_path / 'out')


def test_weights_of_another_cfg_are_refused(tmp_path):
    cfg, _ = networks.write(tmp_path, 'tiny', **TINY)
    _, weights = networks.write(tmp_path, 'voc', **VOC)
    with pytest.raises(ValueError, match='too long'):
        darknet_to_mmdet(cfg, weights, tmp_path / 'out')


def test_names_that_only_the_class_of_the_data_set_knows():
    head = SimpleNamespace(num_classes=4)
    data = dict(type='RepeatDataset', times=1, dataset=dict(type='TinyTrafficDataset', pipeline=[]))
    config = Config(dict(test_dataloader=dict(dataset=data)))
    names = to_darknet._names(SimpleNamespace(bbox_head=head), config, {})
    assert names == ['car', 'truck', 'pedestrian', 'cyclist']
    head.num_classes = 3
    assert to_darknet._names(SimpleNamespace(bbox_head=head), config, {})[2] == 'class_2'


def test_bad_names_are_refused(tmp_path):
    cfg, weights = networks.write(tmp_path, **TINY)
    names = tmp_path / 'model.names'  # found beside the cfg
    names.write_text('one\ntwo\n')
    with pytest.raises(ValueError, match=r'classes=20: but .*model.names has 2 names'):
        darknet_to_mmdet(cfg, weights, tmp_path / 'out')
    names.write_text('same\n' * 20)
    with pytest.raises(ValueError, match="'same' stands there twice"):
        darknet_to_mmdet(cfg, weights, tmp_path / 'out')
    names.write_bytes(b'\xff\xfe' * 20)
    with pytest.raises(ValueError, match='byte 0 is no UTF-8: save this file of class names'):
        darknet_to_mmdet(cfg, weights, tmp_path / 'out')


def test_an_interrupted_conversion_leaves_what_was_there(tmp_path, monkeypatch):
    cfg, weights = networks.write(tmp_path, **TINY)
    out = tmp_path / 'out'
    darknet_to_mmdet(cfg, weights, out)
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    weights.write_bytes(networks.random_weights(cfg.read_text(), seed=1))

    calls = []

    def full_disk(descriptor):
        calls.append(descriptor)
        if len(calls) == 2:
            raise OSError('No space left on device')

    monkeypatch.setattr('os.fsync', full_disk)
    with pytest.raises(OSError, match='No space'):
        darknet_to_mmdet(cfg, weights, out)
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before


@pytest.fixture
def converted(tmp_path):
    cfg, weights = networks.write(tmp_path, **VOC)
    config, checkpoint = darknet_to_mmdet(cfg, weights, tmp_path)
    return Config.fromfile(config), checkpoint, tmp_path / 'back'


def test_a_joint_head_gets_an_objectness_of_one(converted):
    """Darknet's master multiplies the class by it; the way back has the same scores."""
    config, checkpoint, out = converted
    change = dict(loss_obj=None, loss_cls=dict(use_sigmoid=True))
    config.merge_from_dict(dict(model=dict(bbox_head=change)))
    with pytest.raises(ValueError, match='sigmoid of its own'):
        mmdet_to_darknet(config, checkpoint, out)
    config.darknet.region.softmax = '0'
    cfg, weights, _ = mmdet_to_darknet(config, checkpoint, out)
    again, new_checkpoint = darknet_to_mmdet(cfg, weights, out / 'again')
    model, _ = load_detector(config, checkpoint)
    other, _ = load_detector(Config.fromfile(again), new_checkpoint)
    assert model.bbox_head.joint and not other.bbox_head.joint
    images = torch.rand(2, 3, 64, 96, generator=torch.Generator().manual_seed(0))
    found = []
    with torch.no_grad():
        for detector in (model, other):
            head = detector.bbox_head
            pred, _, _ = head._flatten(head(detector.extract_feat(images)), [])
            found.append((head._scores(pred), pred[..., :4]))
    torch.testing.assert_close(*(scores for scores, _ in found))
    assert torch.equal(*(boxes for _, boxes in found))


def test_sigmoids_and_reorg3d_have_no_darknet_in_common(converted):
    config, checkpoint, out = converted
    config.merge_from_dict(
        dict(
            model=dict(
                bbox_head=dict(loss_cls=dict(use_sigmoid=True)), neck=dict(reorg='channel_major')
            )
        )
    )
    config.darknet.region.softmax = '0'
    with pytest.raises(ValueError, match='reorg3d.*only Darknet'):
        mmdet_to_darknet(config, checkpoint, out)
    assert not out.exists()


def test_cells_of_16_pixels(tmp_path):
    """A detector trained here, there and back: the same map, from a file without Darknet's end."""
    config = Config.fromfile(CONFIGS / 'study/bccd_stride16.py')
    with DefaultScope.overwrite_default_scope('mmdet'):
        torch.save(MODELS.build(config.model).state_dict(), tmp_path / 'fine.pth')
    cfg, weights, _ = mmdet_to_darknet(config, tmp_path / 'fine.pth', tmp_path / 'darknet')
    again = Config.fromfile(darknet_to_mmdet(cfg, weights, tmp_path / 'again')[0])
    assert again.model.backbone.out_indices == (3, 4)
    assert again.model.bbox_head.anchor_generator.stride == 16
    assert again.model.data_preprocessor.pad_size_divisor == 16
    model, _ = load_detector(config, tmp_path / 'fine.pth')
    other, _ = load_detector(again, tmp_path / 'again/bccd_stride16.pth')
    images = torch.rand(1, 3, 48, 80)
    with torch.no_grad():
        expected, found = (m.bbox_head(m.extract_feat(images))[0] for m in (model, other))
    assert expected.shape[-2:] == (3, 5)
    assert torch.equal(found, expected)


def test_cells_of_8_pixels_are_refused(tmp_path):
    config = Config.fromfile(CONFIGS / 'study/bccd_stride16.py')
    config.model.backbone.out_indices = (2, 3)
    config.model.neck.in_channels = (32, 64)
    config.model.bbox_head.anchor_generator.stride = 8
    with DefaultScope.overwrite_default_scope('mmdet'):
        torch.save(MODELS.build(config.model).state_dict(), tmp_path / 'finer.pth')
    with pytest.raises(ValueError, match=r'out_indices=\(2, 3\).*of stride 8; a Darknet cfg'):
        mmdet_to_darknet(config, tmp_path / 'finer.pth', tmp_path / 'out')
    assert not (tmp_path / 'out').exists()


@pytest.mark.parametrize(
    'change, message',
    [
        (dict(bbox_head=dict(loss_cls=dict(use_sigmoid=True))), 'sigmoid of its own'),
        (dict(data_preprocessor=dict(mean=[1.0, 0.0, 0.0])), r'mean \[1.0, 0.0, 0.0\]'),
        (dict(data_preprocessor=dict(std=[1.0, 1.0, 1.0])), 'divides by 255'),
        (dict(data_preprocessor=dict(mean=None, std=None)), 'no mean and std'),
        (dict(data_preprocessor=dict(bgr_to_rgb=False)), 'blue first'),
        (dict(backbone=dict(act_cfg=dict(_delete_=True, type='GELU'))), 'GELU'),
        (dict(backbone=dict(act_cfg=dict(negative_slope=0.2))), '0.2'),
        (dict(backbone=dict(out_indices=(3, 4, 5, 2))), 'out_indices'),
        (
            dict(bbox_head=dict(anchor_generator=dict(stride=16))),
            'stride 16, and a map of stride 32',
        ),
        (dict(backbone=dict(norm_cfg=dict(eps=1e-7))), 'epsilon 1e-07'),
    ],
    ids=str,
)
def test_what_darknet_cannot_express_is_refused(converted, change, message):
    config, checkpoint, out = converted
    if 'eps' in str(change):
        content = torch.load(checkpoint, weights_only=True)
        content['state_dict']['backbone.stages.0.0.bn.running_var'].fill_(1e-6)
        torch.save(content, checkpoint)
    config.merge_from_dict(dict(model=change))
    with pytest.raises(ValueError, match=message):
        mmdet_to_darknet(config, checkpoint, out, name='model')
    assert not out.exists()


def test_other_detectors_and_checkpoints_are_refused(converted, tmp_path):
    config, checkpoint, out = converted
    other = Config.fromfile('configs/bccd/yolov2_mobilenetv2_fl.py')
    with DefaultScope.overwrite_default_scope('mmdet'):
        model = MODELS.build(other.model)
    torch.save(dict(state_dict=model.state_dict()), tmp_path / 'mobile.pth')
    with pytest.raises(ValueError, match='backbone is a MobileNetV2'):
        mmdet_to_darknet(other, tmp_path / 'mobile.pth', out)
    with pytest.raises(ValueError, match='does not fit'):
        mmdet_to_darknet(config, tmp_path / 'mobile.pth', out)
    with pytest.raises(FileNotFoundError):
        mmdet_to_darknet(config, tmp_path / 'none.pth', out)
    assert not out.exists()


def test_opencv_takes_no_sigmoids_and_no_reorg3d(tmp_path):
    for options, message in (
        (dict(reorg='reorg3d'), r'\[reorg\] only'),
        (dict(region='\n'), 'softmax=1 only'),
    ):
        cfg, weights = networks.write(tmp_path, **VOC | options)
        if 'softmax' in message:
            cfg.write_text(edit(cfg.read_text(), 'softmax=1', 'softmax=0'))
        config, checkpoint = darknet_to_mmdet(cfg, weights, tmp_path)
        with pytest.raises(ValueError, match=message):
            mmdet_to_darknet(config, checkpoint, tmp_path / 'out', opencv_thresh=0.25)


def test_convolutions_come_in_darknets_order(converted):
    config, checkpoint, _ = converted
    names = [layer.name for layer in convolutions(load_detector(config, checkpoint)[0])]
    parts = [name.split('.')[0] for name in names]
    assert parts == ['backbone'] * 18 + ['neck'] * 3 + ['bbox_head'] * 2
    assert names[18:] == [
        'neck.coarse.0',
        'neck.coarse.1',
        'neck.fine',
        'bbox_head.convs.0',
        'bbox_head.conv_pred',
    ]
