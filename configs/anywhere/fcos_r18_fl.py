# FCOS: focal loss is its own; here with poly-1 and an IoU loss of the boxes.
_base_ = './_base_/traffic.py'
from mmengine.hub import get_config

model = get_config(
    'mmdet::fcos/fcos_r18_fpn_gn-head-center-normbbox-centeronreg-giou_8xb8-amp-lsj-200e_coco.py'
).model
model.bbox_head.loss_cls = dict(
    type='BalancedFocalLoss', use_sigmoid=True, gamma=2.0, alpha=0.25, poly_epsilon=1.0
)
model.bbox_head.num_classes = 4
model.backbone.update(init_cfg=None, frozen_stages=-1, norm_eval=False)
model.data_preprocessor.batch_augments = None
