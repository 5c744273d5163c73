# Focal loss with what helped beside it: docs/results.md, "Beside the loss".
_base_ = './yolov2_fl.py'
model = dict(
    # One size: several have not been shown to gain in short trainings.
    data_preprocessor=dict(batch_augments=None),
    # Cells of 16 pixels: Darknet-19 without its last stage. On small cells nothing helped as much.
    backbone=dict(out_indices=(3, 4)),
    neck=dict(in_channels=(256, 512), out_channels=512, passthrough_channels=128),
    bbox_head=dict(
        in_channels=1024,
        feat_channels=512,
        # Those of yolov2_fl.py in pixels.
        anchor_generator=dict(
            stride=16,
            anchors=[(1.62, 2.1), (3.86, 5.64), (4.06, 4.46), (4.84, 5.96), (8.72, 10.5)],
        ),
        # x, y, w and h are learned as before; the overlap itself besides.
        loss_bbox=dict(type='CIoULoss', loss_weight=1.0),
    ),
    test_cfg=dict(nms=dict(_delete_=True, type='soft_nms', iou_threshold=0.45, min_score=0.001)),
)
