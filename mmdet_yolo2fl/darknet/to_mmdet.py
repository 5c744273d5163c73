"""From a Darknet ``.cfg`` and ``.weights`` to an MMDetection config and checkpoint."""

import io
import logging
import re
from pathlib import Path

import mmengine
import numpy as np
import torch
from mmdet.datasets import CocoDataset, VOCDataset
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.logging import print_log
from mmengine.registry import DefaultScope

from ..datasets.transforms.darknet_jitter import JITTER_LIMITS
from ..models.backbones.darknet import NORM_CFG, DarknetTiny
from ..whole_files import write_all
from .cfg import Section
from .files import read_text
from .network import ACTIVATIONS, DarknetNetwork, read_network
from .weights import convolutions, load_convolution, read_weights

# The sizes of multi-scale training, `random=1`.
MIN_SCALE, MAX_SCALE = 320, 608
# Options of training, most of AlexeyAB's fork, that have no counterpart in the config.
IGNORED = ('adam', 'mosaic', 'mixup', 'cutmix', 'blur', 'gaussian_noise', 'ema_alpha')
IGNORED += ('dynamic_minibatch', 'clip')
META_KEYS = ('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor', 'pad_offset')


def darknet_to_mmdet(
    cfg: str | Path,
    weights: str | Path,
    out: str | Path,
    names: str | Path | None = None,
    letterbox: bool = True,
    interpolation: str = 'darknet',
) -> tuple[Path, Path]:
    """Convert a YOLOv2 of Darknet.

    Args:
        cfg (str | Path): Its ``.cfg``.
        weights (str | Path): Its ``.weights``.
        out (str | Path): Folder for the results; both are written whole or not at all.
        names (str | Path, optional): A file with one class name in each line. Defaults to a
            ``.names`` beside the cfg; else VOC's or COCO's names if the cfg is one of theirs.
        letterbox (bool): Images in Darknet's letterbox, in training placed as its master does;
            else stretched, and trained as AlexeyAB's fork does (its jitter, no weight by the
            area of a box). Defaults to True.
        interpolation (str): 'darknet' or 'opencv'; see ``DarknetResize``.

    Returns:
        tuple[Path, Path]: The config and the checkpoint.

    Raises:
        FileNotFoundError: If a file is missing.
        ValueError: If a file is damaged, not supported, or does not fit another.
    """
    network = read_network(cfg)
    if network.net.integer('letter_box', 0) and not letterbox:
        network.net.fail('images come in a letterbox, convert it with that', 'letter_box')
    classes = class_names(network, names)
    header, values = read_weights(weights)
    _check_length(network, values, weights)
    config = mmdet_config(network, classes, letterbox, interpolation)
    with DefaultScope.overwrite_default_scope('mmdet'):
        model = MODELS.build(config.model)
    start = 0
    for index, (target, section) in enumerate(zip(convolutions(model), network.convolutions)):
        size = network.size(index)
        where = f'{weights}: the weights of [convolutional] at {section.path}:{section.line}'
        load_convolution(target, values[start : start + size], where)
        start += size
    model.bbox_head.seen.fill_(header.seen)

    buffer = io.BytesIO()
    meta = dict(
        dataset_meta=dict(classes=classes),
        darknet_version=list(header[:3]),
        mmengine_version=mmengine.__version__,
    )
    torch.save(dict(meta=meta, state_dict=model.state_dict()), buffer)
    stem = Path(cfg).stem
    checkpoint_path, config_path = Path(out, f'{stem}.pth'), Path(out, f'{stem}.py')
    if config_path.resolve() == Path(cfg).resolve():
        raise ValueError(f'{out}: the config would overwrite {cfg}')
    text = _as_text(config, network, weights)
    write_all({checkpoint_path: buffer.getvalue(), config_path: text.encode()})
    return config_path, checkpoint_path


def class_names(network: DarknetNetwork, path: str | Path | None = None) -> tuple[str, ...]:
    """The names of a network's classes.

    Raises:
        FileNotFoundError: If there is no file of this path.
        ValueError: If it has another number of names than the network has classes.
    """
    number, stem = network.region.integer('classes'), network.path.stem
    if path is None and network.path.with_suffix('.names').is_file():
        path = network.path.with_suffix('.names')
    if path is not None:
        path = Path(path)
        names = tuple(
            line.strip()
            for line in read_text(path, 'file of class names').splitlines()
            if line.strip()
        )
        for name in names:
            # In the config it would stand for something else.
            if '{{' in name:
                raise ValueError(f'{path}: a class name must not contain {{{{, got {name!r}')
        if len(set(names)) < len(names):
            twice = next(name for name in names if names.count(name) > 1)
            raise ValueError(f'{path}: the class name {twice!r} stands there twice')
        if len(names) != number:
            network.region.fail(f'but {path} has {len(names)} names', 'classes')
        return names
    for dataset, count, is_one in (
        (VOCDataset, 20, 'voc' in stem),
        (CocoDataset, 80, 'voc' not in stem and stem.startswith(('yolo', 'tiny-yolo'))),
    ):
        if number == count and is_one:
            print_log(f'{stem}: takes the class names of {dataset.__name__}', logger='current')
            return tuple(dataset.METAINFO['classes'])
    print_log(f'{stem}: no .names file: the classes are class_0, class_1, ...', logger='current')
    return tuple(f'class_{i}' for i in range(number))


def _check_length(network: DarknetNetwork, values: np.ndarray, weights: str | Path) -> None:
    """Compare the file's length with the cfg, before anything as large is made."""
    start = 0
    for index, section in enumerate(network.convolutions):
        size = network.size(index)
        if start + size > len(values):
            raise ValueError(
                f'{weights}: too short for {network.path}: [convolutional] at line {section.line} '
                f'needs the numbers {start}..{start + size - 1}, and the file has {len(values)}. '
                'It is cut off, or belongs to another cfg'
            )
        start += size
    if start < len(values):
        raise ValueError(
            f'{weights}: too long for {network.path}: its {len(network.convolutions)} '
            f'convolutions need {start} numbers, and the file has {len(values)}. It belongs to '
            'another cfg'
        )


def mmdet_config(
    network: DarknetNetwork,
    classes: tuple[str, ...],
    letterbox: bool = True,
    interpolation: str = 'darknet',
) -> Config:
    """A config that stands alone: model, pipelines, data loaders, schedule as the cfg has them."""
    size = network.input_size
    train = training_options(network)
    gray = network.net.integer('channels', 3) == 1
    jitter = dict(type='DarknetJitter', scale=train['size'], jitter=train['jitter'])
    if not letterbox:  # AlexeyAB's fork crops and stretches where master shrinks onto grey
        jitter['variant'] = 'alexeyab'
        if train['jitter'] >= JITTER_LIMITS['alexeyab']:
            network.region.fail('must be less than 0.5 where images are stretched', 'jitter')
    load = dict(type='LoadImageFromFile', color_type='grayscale' if gray else 'color')
    test_pipeline = [
        load,
        dict(type='DarknetResize', scale=size, letterbox=letterbox, interpolation=interpolation),
        dict(type='LoadAnnotations', with_bbox=True),
        dict(type='PackDetInputs', meta_keys=META_KEYS),
    ]
    train_pipeline = [
        dict(load, type='CheckedLoadImageFromFile'),
        dict(type='LoadAnnotations', with_bbox=True),
        jitter,
        dict(type='DarknetHSV', **train['hsv']),
        *([dict(type='RandomFlip', prob=0.5)] if train['flip'] else []),
        dict(type='PackDetInputs'),
    ]
    data = dict(type='CocoDataset', data_root='data/darknet/', metainfo=dict(classes=classes))
    val_dataloader = dict(
        batch_size=8,
        num_workers=2,
        drop_last=False,
        sampler=dict(type='DefaultSampler', shuffle=False),
        dataset=dict(
            data,
            ann_file='valid.json',
            data_prefix=dict(img=''),
            test_mode=True,
            pipeline=test_pipeline,
        ),
    )
    evaluator = dict(type='CocoMetric', ann_file='data/darknet/valid.json', classwise=True)
    hooks = dict(
        timer=dict(type='IterTimerHook'),
        logger=dict(type='LoggerHook', interval=50),
        param_scheduler=dict(type='AccumulatedParamSchedulerHook'),
        checkpoint=dict(
            type='AtomicCheckpointHook',
            by_epoch=False,
            interval=train['interval'],
            max_keep_ckpts=3,
        ),
        sampler_seed=dict(type='DistSamplerSeedHook'),
        visualization=dict(type='DetVisualizationHook'),
    )
    return Config(
        dict(
            custom_imports=dict(imports=['mmdet_yolo2fl'], allow_failed_imports=False),
            default_scope='mmdet',
            darknet=dict(net=dict(network.net.options), region=dict(network.region.options)),
            model=_model(network, train, letterbox),
            train_pipeline=train_pipeline,
            test_pipeline=test_pipeline,
            train_dataloader=dict(
                batch_size=train['batch_size'],
                num_workers=2,
                sampler=dict(type='InfiniteSampler', shuffle=True),
                dataset=dict(
                    data,
                    ann_file='train.json',
                    data_prefix=dict(img=''),
                    pipeline=train_pipeline,
                ),
            ),
            val_dataloader=val_dataloader,
            test_dataloader=val_dataloader,
            val_evaluator=evaluator,
            test_evaluator=evaluator,
            train_cfg=dict(
                type='IterBasedTrainLoop',
                max_iters=train['max_iters'],
                val_interval=train['interval'],
            ),
            val_cfg=dict(type='ValLoop'),
            test_cfg=dict(type='TestLoop'),
            optim_wrapper=dict(
                type='OptimWrapper',
                optimizer=dict(type='SGD', **train['sgd']),
                paramwise_cfg=dict(bias_decay_mult=0.0, norm_decay_mult=0.0),
                accumulative_counts=train['accumulate'],
            ),
            param_scheduler=train['schedulers'],
            default_hooks=hooks,
            custom_hooks=[dict(type='NumClassCheckHook'), dict(type='NonFiniteLossHook')],
            env_cfg=dict(
                cudnn_benchmark=False,
                mp_cfg=dict(mp_start_method='fork', opencv_num_threads=0),
                dist_cfg=dict(backend='nccl'),
            ),
            vis_backends=[dict(type='LocalVisBackend')],
            visualizer=dict(
                type='DetLocalVisualizer',
                vis_backends=[dict(type='LocalVisBackend')],
                name='visualizer',
            ),
            log_processor=dict(type='LogProcessor', window_size=50, by_epoch=False),
            log_level='INFO',
            load_from=None,
            resume=False,
        )
    )


def training_options(network: DarknetNetwork) -> dict:
    """What ``[net]`` and ``[region]`` say of training, in MMEngine's terms.

    The public cfgs stand ready for testing (``batch=1``); then the batch of their commented-out
    training lines is taken: 64 in 8 subdivisions, those of Tiny YOLOv2 in 2.
    """
    net, region = network.net, network.region
    batch, accumulate = net.integer('batch', 1, 1), net.integer('subdivisions', 1, 1)
    if batch == 1:
        batch, accumulate = 64, 2 if network.backbone is DarknetTiny else 8
        print_log(
            f'{net.path}: batch=1 is for testing: the training recipe has batch={batch}, '
            f'subdivisions={accumulate}',
            logger='current',
        )
    if batch < accumulate:
        net.fail('must be at least subdivisions', 'batch')
    policy = net.options.get('policy', 'constant')
    left_out = [key for key in IGNORED if net.number(key, 0)]
    if policy not in ('constant', 'steps'):
        left_out.append('policy')
    for key in left_out:
        _leave_out(f'{net.path}: {key}={net.options[key]}')
    for layer in network.layers:
        for key, default in (('stopbackward', 0), ('learning_rate', 1)):
            if layer.number(key, default) != default:
                value = layer.options[key]
                _leave_out(f'{net.path}:{layer.line}: [{layer.name}] {key}={value}')
    for layer in network.convolutions:
        if layer.integer('batch_normalize', 0) > 1:  # over several batches
            _leave_out(
                f'{net.path}:{layer.line}: batch_normalize={layer.options["batch_normalize"]}'
            )
    max_batches = net.integer('max_batches', 80200, at_least=1)
    schedulers = _schedulers(net, policy)
    width, height = network.input_size
    multi_scale = region.number('random', 0) > 0
    if multi_scale and MIN_SCALE * width // height < 32:
        region.fail(
            f'sizes from {MIN_SCALE} to {MAX_SCALE} pixels of height leave less than 32 of width '
            f'for an input of {width}x{height}',
            'random',
        )
    if multi_scale:
        # Images are made at the largest size; DarknetBatchResize only ever shrinks them.
        width, height = MAX_SCALE * width // height // 32 * 32, MAX_SCALE
    return dict(
        size=(width, height),
        batch_size=batch // accumulate,
        accumulate=accumulate,
        max_iters=max_batches * accumulate,
        interval=min(1000, max_batches) * accumulate,
        schedulers=schedulers,
        sgd=dict(
            lr=net.number('learning_rate', 0.001, low=0),
            momentum=net.number('momentum', 0.9, 0, 1),
            weight_decay=net.number('decay', 0.0001, low=0),
        ),
        jitter=region.number('jitter', 0.2, 0, 0.99),
        hsv=dict(
            hue=net.number('hue', 0, 0, 1),
            saturation=_factor(net, 'saturation'),
            exposure=_factor(net, 'exposure'),
        ),
        flip=bool(net.integer('flip', 1)),
        multi_scale=multi_scale,
    )


def _schedulers(net: Section, policy: str) -> list[dict]:
    schedulers = []
    if net.integer('burn_in', 0):
        schedulers.append(
            dict(
                type='BurnInLR',
                by_epoch=False,
                burn_in=net.integer('burn_in'),
                power=net.number('power', 4, low=0.01),
            )
        )
    if policy == 'steps':
        steps, scales = net.numbers('steps', int), net.numbers('scales')
        if len(steps) != len(scales):
            net.fail(f'{len(steps)} steps need as many scales, got {len(scales)}', 'scales')
        if steps != sorted(set(steps)):
            net.fail('must be increasing', 'steps')
        # MMEngine counts from 0, Darknet from 1; a scheduler for each step, since the scales may
        # differ. yolov2-tiny-voc.cfg scales at batch -1, that is from the start.
        for step, scale in zip(steps, scales):
            # Darknet looks at the steps only when the burn-in is over.
            milestone = max(step, net.integer('burn_in', 0), 1) - 1
            schedulers.append(
                dict(type='MultiStepLR', by_epoch=False, milestones=[milestone], gamma=scale)
            )
    return schedulers


def _leave_out(what: str) -> None:
    print_log(f'{what} is left out of the training recipe', logger='current', level=logging.WARNING)


def _factor(net: Section, key: str) -> float:
    """Darknet draws from 1 to it and takes the inverse half of the time: .75 is 1 / .75."""
    if net.number(key, 1) == 0:
        # Meant as "none", though Darknet draws from 0 to 1.
        _leave_out(f'{net.path}: {key}=0')
        return 1
    value = net.number(key, 1, low=0.001)
    return max(value, 1 / value)


def _model(network: DarknetNetwork, train: dict, letterbox: bool) -> dict:
    region, filters = network.region, network.filters
    channels = network.net.integer('channels', 3)
    layer_cfg = dict(
        norm_cfg=NORM_CFG if network.batch_normalize else None,
        act_cfg=ACTIVATIONS[network.activation],
    )
    widths = filters[: network.num_backbone]
    backbone = dict(type=network.backbone.__name__, in_channels=channels, **layer_cfg)
    factor = widths[0] / network.backbone.default_channels()[0]
    if widths == network.backbone.default_channels(factor)[: len(widths)]:
        backbone['widen_factor'] = factor
    else:
        backbone['channels'] = widths
    last = network.num_stages - 1
    if network.num_stages < len(network.backbone.arch):
        backbone['out_indices'] = (last,) if network.passthrough is None else (last - 1, last)
    coarse = network.num_backbone + network.num_coarse
    neck = None
    if network.passthrough is not None:
        neck = dict(
            type='YOLOV2Neck',
            in_channels=(widths[network.num_before_passthrough - 1], widths[-1]),
            out_channels=_one_or_all(filters[network.num_backbone : coarse]),
            num_convs=network.num_coarse,
            passthrough_channels=filters[coarse] if network.num_fine else None,
            reorg=network.passthrough,
            **layer_cfg,
        )
    head = coarse + network.num_fine
    anchors = region.numbers('anchors')
    softmax = bool(region.integer('softmax', 0))
    focal = bool(region.integer('focal_loss', 0))
    loss_cls = dict(type='CrossEntropyLoss', use_sigmoid=not softmax)
    if focal:
        loss_cls = dict(type='BalancedFocalLoss', use_sigmoid=False, gamma=2.0, alpha=0.5)
    squared = dict(type='MSELoss', loss_weight=0.5)
    bbox_head = dict(
        type='YOLOV2Head',
        num_classes=region.integer('classes'),
        in_channels=network.shapes[head][0],
        feat_channels=_one_or_all(filters[head:-1]),
        stacked_convs=network.num_head,
        anchor_generator=dict(
            type='YOLOV2AnchorGenerator',
            anchors=[tuple(anchors[i : i + 2]) for i in range(0, len(anchors), 2)],
            stride=network.stride,
        ),
        loss_obj=squared,
        loss_cls=loss_cls,
        loss_xy=squared,
        loss_wh=squared,
        object_scale=region.number('object_scale', 1),
        noobject_scale=region.number('noobject_scale', 1),
        class_scale=region.number('class_scale', 1),
        coord_scale=region.number('coord_scale', 1),
        rescore=bool(region.integer('rescore', 0)),
        # AlexeyAB's fork does not weight by the area: it has the focal loss, stretches images, or
        # says that it does not.
        coord_area_weight=letterbox and not focal and not network.net.integer('letter_box', 0),
        coord_prefill=12800,
        normalizer='batch',
        prior_prob=None,
        **layer_cfg,
    )
    batch_augments = None
    if train['multi_scale']:
        batch_augments = [
            dict(
                type='DarknetBatchResize',
                random_size_range=(MIN_SCALE, MAX_SCALE),
                interval=10,
                accumulative_counts=train['accumulate'],
                final_size=MAX_SCALE,
                final_batches=200,
            )
        ]
    return dict(
        type='SingleStageDetector',
        data_preprocessor=dict(
            type='DetDataPreprocessor',
            mean=[0.0] * channels,
            std=[255.0] * channels,
            bgr_to_rgb=channels == 3,
            pad_size_divisor=network.stride,
            batch_augments=batch_augments,
        ),
        backbone=backbone,
        neck=neck,
        bbox_head=bbox_head,
        train_cfg=dict(
            assigner=dict(
                type='YOLOV2Assigner',
                ignore_iou_thr=region.number('thresh', 0.5),
                bias_match=bool(region.integer('bias_match', 0)),
            )
        ),
        test_cfg=dict(
            score_thr=0.005,
            nms_pre=1000,
            min_bbox_size=0,
            nms=dict(type='nms', iou_threshold=0.45),
            max_per_img=100,
        ),
    )


def _one_or_all(values: list[int]) -> int | list[int]:
    return values[0] if len(set(values)) == 1 else values


def _as_text(config: Config, network: DarknetNetwork, weights: str | Path) -> str:
    # Names go into a comment: a line break in one must not end it.
    cfg_name, weights_name = (
        re.sub(r'\s', ' ', Path(path).name) for path in (network.path, weights)
    )
    return (
        f'# Made from {cfg_name} and {weights_name} by tools/darknet2mmdet.py.\n'
        '# `darknet` holds the options of the cfg, for the way back (tools/mmdet2darknet.py).\n'
        '# To evaluate or train on data of your own: tools/darknet2coco.py obj.data data/darknet, '
        'and\n# put the data_prefix that it prints into the data sets.\n'
        f'{config.pretty_text}'
    )
