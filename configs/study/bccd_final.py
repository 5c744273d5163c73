# Where finalists meet, once: `trainval` to `test`, 416x320, 80 epochs, half of Darknet-19's width.
_base_ = './bccd_joint.py'
model = dict(
    backbone=dict(widen_factor=0.5),
    neck=dict(in_channels=(256, 512), out_channels=512, passthrough_channels=32),
    bbox_head=dict(
        in_channels=640,
        feat_channels=512,
        # tools/cluster_anchors.py configs/study/bccd_final.py: average IoU 0.847
        anchor_generator=dict(
            anchors=[(0.81, 0.81), (2.03, 1.71), (1.93, 2.17), (2.41, 2.29), (4.35, 4.03)]
        ),
    ),
)
image_size = (416, 320)
train_pipeline = _base_.train_pipeline
test_pipeline = _base_.test_pipeline
train_pipeline[3].scale = image_size
test_pipeline[1].scale = image_size
train_dataloader = dict(
    dataset=dict(ann_file='ImageSets/Main/trainval.txt', pipeline=train_pipeline)
)
val_dataloader = dict(dataset=dict(ann_file='ImageSets/Main/test.txt', pipeline=test_pipeline))
test_dataloader = val_dataloader
max_epochs = 80
train_cfg = dict(max_epochs=max_epochs, val_interval=20)
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
optim_wrapper = dict(optimizer=dict(lr=0.001))
default_hooks = dict(checkpoint=dict(interval=20))
