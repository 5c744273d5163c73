# YOLOv3: focal loss on the objectness, cross entropy with weighted classes on the class. It sums.
_base_ = './_base_/traffic.py'
from mmengine.hub import get_config

model = get_config('mmdet::yolo/yolov3_mobilenetv2_8xb24-320-300e_coco.py').model
model.bbox_head.loss_conf = dict(
    type='BalancedFocalLoss',
    use_sigmoid=True,
    gamma=2.0,
    alpha=0.25,
    reduction='sum',
    loss_weight=4.0,
)
model.bbox_head.loss_cls = dict(
    type='BalancedFocalLoss',
    use_sigmoid=True,
    gamma=0.0,
    alpha=None,
    class_weight=[0.71, 0.85, 1.07, 1.38],
    reduction='sum',
)
model.bbox_head.num_classes = 4
model.backbone.init_cfg = None
