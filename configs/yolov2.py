# The same with Darknet's own loss: squared errors and softmax. Without its pull towards the priors
# (coord_prefill), which in so short a training would not end.
_base_ = './yolov2_fl.py'
model = dict(
    bbox_head=dict(
        loss_obj=dict(_delete_=True, type='MSELoss', loss_weight=0.5),
        loss_xy=dict(_delete_=True, type='MSELoss', loss_weight=0.5),
        object_scale=5.0,
        rescore=True,
    )
)
