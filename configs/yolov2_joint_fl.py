# yolov2_fl.py without objectness: focal loss tells every class from the background, as in
# RetinaNet, with an alpha for each class. The best of the losses on these scenes: docs/results.md.
_base_ = './yolov2_fl.py'
model = dict(
    bbox_head=dict(
        loss_obj=None,
        loss_cls=dict(
            _delete_=True,
            type='BalancedFocalLoss',
            use_sigmoid=True,
            gamma=2.0,
            # car, truck, pedestrian, cyclist: tools/imbalance_report.py configs/yolov2_fl.py
            alpha=[0.19, 0.22, 0.26, 0.32],
            loss_weight=4.0,
        ),
    )
)
