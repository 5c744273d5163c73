# yolov2_fl.py with plain cross entropy instead of focal loss, everything else equal.
_base_ = './yolov2_fl.py'
model = dict(bbox_head=dict(loss_obj=dict(gamma=0.0, alpha=None, loss_weight=1.0)))
