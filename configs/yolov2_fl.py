# YOLOv2 with focal loss on the embedded street scenes: `make demo`.
# A quarter as wide as Darknet-19 and at one size, so that two CPU cores need minutes.
_base_ = [
    './_base_/models/yolov2_fl.py',
    './_base_/datasets/tiny_traffic.py',
    './_base_/schedules/schedule_from_scratch.py',
    './_base_/default_runtime.py',
]
model = dict(
    data_preprocessor=dict(batch_augments=None),
    backbone=dict(widen_factor=0.25),
    neck=dict(in_channels=(128, 256), out_channels=256, passthrough_channels=32),
    bbox_head=dict(
        num_classes=4,
        in_channels=384,
        feat_channels=256,
        # tools/cluster_anchors.py configs/yolov2_fl.py: average IoU 0.716
        anchor_generator=dict(
            anchors=[(0.96, 0.68), (1.65, 0.98), (1.21, 3.07), (2.66, 1.71), (4.39, 2.96)]
        ),
    ),
)
max_epochs = 3
train_cfg = dict(max_epochs=max_epochs, val_interval=1)
optim_wrapper = dict(type='YOLOV2AmpOptimWrapper', optimizer=dict(lr=0.002))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=100),
    dict(
        type='CosineAnnealingLR',
        by_epoch=True,
        begin=0,
        end=max_epochs,
        T_max=max_epochs,
        eta_min=1e-5,
        convert_to_iter_based=True,
    ),
]
# Small batches: more steps in the same time.
train_dataloader = dict(batch_size=4)
auto_scale_lr = dict(base_batch_size=4)
default_hooks = dict(checkpoint=dict(save_best='coco/bbox_mAP'))
custom_hooks = _base_.custom_hooks + [
    dict(type='ChannelsLastHook'),
    # Draws what the loss looks at: work_dirs/<run>/focal_loss
    dict(type='FocalLossAnalysisHook'),
]
