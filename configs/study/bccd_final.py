# Where finalists meet, once: `trainval` to `test`, trained at 416x320, tested at 480x384
# (studies/bccd_416_tests.py), 40 epochs, a quarter of Darknet-19's width.
_base_ = './bccd.py'
model = dict(
    bbox_head=dict(
        # tools/cluster_anchors.py configs/study/bccd_final.py: average IoU 0.847
        anchor_generator=dict(
            anchors=[(0.81, 0.81), (2.03, 1.71), (1.93, 2.17), (2.41, 2.29), (4.35, 4.03)]
        ),
        # As studies/bccd_prior.py and bccd_modern.py found on `val`.
        prior_prob=None,
        normalizer='batch',
        loss_bbox=dict(type='CIoULoss', loss_weight=1.0),
    ),
    test_cfg=dict(nms=dict(_delete_=True, type='soft_nms', iou_threshold=0.45, min_score=0.001)),
)
train_pipeline = _base_.train_pipeline
test_pipeline = _base_.test_pipeline
train_pipeline[3].scale = (416, 320)
test_pipeline[1].scale = (480, 384)
train_dataloader = dict(
    dataset=dict(ann_file='ImageSets/Main/trainval.txt', pipeline=train_pipeline)
)
val_dataloader = dict(dataset=dict(ann_file='ImageSets/Main/test.txt', pipeline=test_pipeline))
test_dataloader = val_dataloader
max_epochs = 40
train_cfg = dict(max_epochs=max_epochs)
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
