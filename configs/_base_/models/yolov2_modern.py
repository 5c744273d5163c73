# YOLOv2 with focal loss and what helped beside it: studies/bccd_modern.py and bccd_tests.py.
_base_ = './yolov2_fl.py'
model = dict(
    # x, y, w and h are learned as before; the overlap itself besides.
    bbox_head=dict(loss_bbox=dict(type='CIoULoss', loss_weight=1.0)),
    test_cfg=dict(nms=dict(_delete_=True, type='soft_nms', iou_threshold=0.45, min_score=0.001)),
)
