# Focal loss with what helped beside it: docs/results.md, "Beside the loss".
_base_ = './yolov2_fl.py'
model = dict(
    # x, y, w and h are learned as before; the overlap itself besides.
    bbox_head=dict(loss_bbox=dict(type='CIoULoss', loss_weight=1.0)),
    test_cfg=dict(nms=dict(_delete_=True, type='soft_nms', iou_threshold=0.45, min_score=0.001)),
)
# A cosine in place of the two steps, down to nearly nothing.
param_scheduler = [
    dict(type='LinearLR', start_factor=0.001, by_epoch=False, begin=0, end=1000),
    dict(
        type='CosineAnnealingLR',
        by_epoch=True,
        begin=0,
        end=160,
        T_max=160,
        eta_min=1e-5,
        convert_to_iter_based=True,
    ),
]
