# Cross entropy where master has squared errors of a sigmoid, as YOLOv3: no slope p(1 - p) in the
# gradient. It is also what master's region layer does on CPUs.
_base_ = './yolov2.py'
model = dict(
    bbox_head=dict(
        loss_obj=dict(_delete_=True, type='CrossEntropyLoss', use_sigmoid=True),
        loss_xy=dict(_delete_=True, type='CrossEntropyLoss', use_sigmoid=True),
    )
)
