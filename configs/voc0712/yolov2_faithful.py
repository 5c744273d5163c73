# Darknet's own recipe for VOC, line by line (docs/darknet_recipe.md).
_base_ = [
    '../_base_/models/yolov2.py',
    '../_base_/datasets/voc0712_darknet.py',
    '../_base_/schedules/schedule_darknet_80200.py',
    '../_base_/default_runtime.py',
]
# Darknet-19 trained on ImageNet, at 448 in the end. Get it first, 80 MB:
# https://pjreddie.com/media/files/darknet19_448.conv.23
pretrained = 'weights/darknet19_448.conv.23'

model = dict(
    data_preprocessor=dict(
        batch_augments=[
            dict(
                type='DarknetBatchResize',
                random_size_range=(320, 608),
                interval=10,
                accumulative_counts=_base_.accumulate,
                final_size=608,
                final_batches=200,
            )
        ]
    ),
    backbone=dict(init_cfg=dict(type='PretrainedDarknet', checkpoint=pretrained)),
    test_cfg=dict(score_thr=0.005, nms=dict(type='nms', iou_threshold=0.45)),
)
default_hooks = dict(
    param_scheduler=dict(type='AccumulatedParamSchedulerHook'),
    logger=dict(interval=10 * _base_.accumulate),
    checkpoint=dict(by_epoch=False, interval=2000 * _base_.accumulate),
)
log_processor = dict(by_epoch=False)
