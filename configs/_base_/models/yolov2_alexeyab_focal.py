# The fork's focal_loss=1: softmax focal loss on the class, with its fixed alpha and gamma.
_base_ = './yolov2_alexeyab.py'
model = dict(
    bbox_head=dict(
        loss_cls=dict(
            _delete_=True, type='BalancedFocalLoss', use_sigmoid=False, gamma=2.0, alpha=0.5
        )
    )
)
