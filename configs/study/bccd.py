# Small enough for many runs on a CPU: a quarter as wide as Darknet-19, 320x256. Choices are made
# here, `train` to `val`; `bccd_final.py` is `trainval` to `test`.
_base_ = '../bccd/yolov2_narrow_fl.py'
model = dict(
    backbone=dict(widen_factor=0.25),
    neck=dict(in_channels=(128, 256), out_channels=256, passthrough_channels=32),
    bbox_head=dict(
        in_channels=384,
        feat_channels=256,
        # tools/cluster_anchors.py configs/study/bccd.py: average IoU 0.848
        anchor_generator=dict(
            anchors=[(0.62, 0.65), (1.57, 1.38), (1.49, 1.74), (1.86, 1.83), (3.31, 3.21)]
        ),
        # As RetinaNet starts and divides, unlike the shipped configs: see studies/bccd_prior.py.
        normalizer='num_pos',
        prior_prob=0.01,
    ),
)
image_size = (320, 256)
train_pipeline = _base_.train_pipeline
train_pipeline[3].scale = image_size
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=image_size, keep_ratio=False),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(
        type='PackDetInputs',
        # The metric takes the truths from the samples.
        meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor', 'instances'),
    ),
]
train_dataloader = dict(
    num_workers=1,
    dataset=dict(ann_file='ImageSets/Main/train.txt', pipeline=train_pipeline),
)
val_dataloader = dict(
    num_workers=1, dataset=dict(ann_file='ImageSets/Main/val.txt', pipeline=test_pipeline)
)
test_dataloader = val_dataloader
max_epochs = 30
train_cfg = dict(max_epochs=max_epochs, val_interval=10)
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
optim_wrapper = dict(optimizer=dict(lr=0.002))
val_evaluator = dict(_delete_=True, type='CocoMetric', metric='bbox', classwise=True)
test_evaluator = val_evaluator
default_hooks = dict(checkpoint=dict(max_keep_ckpts=1, interval=10, save_best=None))
