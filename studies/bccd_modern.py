# What MMDetection offers beside the loss, one at a time, on top of the best of bccd_prior.py: the
# candidates for a `modern` preset. What needs no training is in bccd_tests.py.
config = '../configs/study/bccd.py'
seeds = [0, 1, 2]
baseline = 'focal'
_hooks = [
    dict(type='NumClassCheckHook'),
    dict(type='NonFiniteLossHook'),
    dict(type='RandomStateHook'),
    dict(type='ChannelsLastHook'),
]
_load = [dict(type='CheckedLoadImageFromFile'), dict(type='LoadAnnotations', with_bbox=True)]
_size = (320, 256)
_flip = dict(
    type='RandomFlip', prob=[0.25, 0.25, 0.25], direction=['horizontal', 'vertical', 'diagonal']
)
_rest = [
    dict(type='Resize', scale=_size, keep_ratio=False),
    dict(type='YOLOXHSVRandomAug'),
    _flip,
    dict(type='FilterAnnotations', min_gt_bbox_wh=(1, 1), keep_empty=False),
    dict(type='PackDetInputs'),
]
_crop = dict(type='FastMinIoURandomCrop', min_ious=(0.3, 0.5, 0.7, 0.9), min_crop_size=0.5)
_warm_up = dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=100)
_data = dict(
    type='XMLDataset',
    data_root='data/bccd/',
    ann_file='ImageSets/Main/train.txt',
    data_prefix=dict(sub_data_root=''),
    metainfo=dict(classes=('RBC', 'WBC', 'Platelets')),
    filter_cfg=dict(filter_empty_gt=True, min_size=32),
)


def _row(head=None, **changes):
    """The focal config without prior, divided by the images, and what is changed."""
    head = dict(prior_prob=None, normalizer='batch') | (head or {})
    return changes | dict(model=changes.get('model', {}) | dict(bbox_head=head))


def _cosine(epochs):
    return dict(
        type='CosineAnnealingLR',
        by_epoch=True,
        begin=0,
        end=epochs,
        T_max=epochs,
        eta_min=1e-5,
        convert_to_iter_based=True,
    )


def _average(**kind):
    hook = dict(type='EMAHook', update_buffers=True, priority=49, **kind)
    return _row(custom_hooks=[*_hooks, hook])


def _mixed(*steps):
    dataset = dict(
        _delete_=True,
        type='MultiImageMixDataset',
        dataset=dict(_data, pipeline=_load),
        pipeline=[*steps, *_rest],
    )
    return _row(train_dataloader=dict(dataset=dataset))


def _fine(channels, passthrough):
    """Cells of 16 pixels: the map of the stage before the last, and the same anchors in pixels."""
    return _row(
        dict(
            in_channels=4 * passthrough + channels,
            feat_channels=channels,
            anchor_generator=dict(
                stride=16,
                anchors=[(1.24, 1.3), (3.14, 2.76), (2.98, 3.48), (3.72, 3.66), (6.62, 6.42)],
            ),
        ),
        model=dict(
            backbone=dict(out_indices=(3, 4)),
            neck=dict(
                in_channels=(64, 128), out_channels=channels, passthrough_channels=passthrough
            ),
        ),
    )


rows = {
    'focal': _row(),
    'joint focal, alpha by class': _row(config='../configs/study/bccd_joint.py'),
    # YOLO9000's schedule: a tenth of the rate from 3/8 and from 9/16 of the training on.
    'steps in place of the cosine': _row(
        param_scheduler=[
            _warm_up,
            dict(type='MultiStepLR', by_epoch=True, begin=0, end=30, milestones=[11, 17]),
        ]
    ),
    'without the warm-up': _row(param_scheduler=[_cosine(30)]),
    'average of the weights (EMA)': _average(ema_type='ExpMomentumEMA', momentum=0.002),
    # That takes thousands of iterations to begin; these trainings have 780.
    'average of the weights of 100 iterations (EMA)': _average(
        ema_type='ExponentialMovingAverage', momentum=0.01
    ),
    'CIoU loss': _row(
        dict(loss_xy=None, loss_wh=None, loss_bbox=dict(type='CIoULoss', loss_weight=3.0))
    ),
    'CIoU loss besides': _row(dict(loss_bbox=dict(type='CIoULoss', loss_weight=1.0))),
    'mosaic in place of the crop': _mixed(
        dict(type='Mosaic', img_scale=(640, 480), pad_val=114.0),
        # Width and height: then the cells keep their shape.
        dict(type='RandomCrop', crop_size=(640, 480), allow_negative_crop=True),
    ),
    'mixup in place of the crop': _mixed(
        dict(type='Resize', scale=(640, 480), keep_ratio=False),
        dict(type='MixUp', img_scale=(640, 480), ratio_range=(0.8, 1.6), pad_val=114.0),
    ),
    'without the crop': _row(train_dataloader=dict(dataset=dict(pipeline=[*_load, *_rest]))),
    'two anchors a truth': _row(
        model=dict(
            train_cfg=dict(
                assigner=dict(type='YOLOV2Assigner', anchors_per_truth=2, anchor_iou_thr=0.6)
            )
        )
    ),
    # It shows 322 images an epoch instead of 205: fewer epochs, so that as many are seen.
    'rare classes more often': _row(
        train_cfg=dict(max_epochs=19, val_interval=19),
        param_scheduler=[_warm_up, _cosine(19)],
        default_hooks=dict(checkpoint=dict(interval=19)),
        train_dataloader=dict(
            dataset=dict(
                _delete_=True,
                type='ClassBalancedDataset',
                oversample_thr=0.9,
                dataset=dict(_data, pipeline=[*_load, _crop, *_rest]),
            )
        ),
    ),
    'cells of 16 pixels, as much computing': _fine(128, 32),
    'cells of 16 pixels': _fine(256, 32),
    '416 x 320': _row(
        # Those of 320 x 256 in pixels of this size; the cells have stayed the same.
        dict(
            anchor_generator=dict(
                anchors=[(0.81, 0.81), (2.04, 1.73), (1.94, 2.18), (2.42, 2.29), (4.3, 4.01)]
            )
        ),
        train_dataloader=dict(
            dataset=dict(
                pipeline=[
                    *_load,
                    _crop,
                    dict(type='Resize', scale=(416, 320), keep_ratio=False),
                    *_rest[1:],
                ]
            )
        ),
        val_dataloader=dict(
            dataset=dict(
                pipeline=[
                    dict(type='LoadImageFromFile'),
                    dict(type='Resize', scale=(416, 320), keep_ratio=False),
                    dict(type='LoadAnnotations', with_bbox=True),
                    dict(
                        type='PackDetInputs',
                        meta_keys=(
                            'img_id',
                            'img_path',
                            'ori_shape',
                            'img_shape',
                            'scale_factor',
                            'instances',
                        ),
                    ),
                ]
            )
        ),
    ),
}
