# RTMDet: the label of a positive is its IoU (a quality target), as its own loss has it.
_base_ = './_base_/traffic.py'
from mmengine.hub import get_config

model = get_config('mmdet::rtmdet/rtmdet_tiny_8xb32-300e_coco.py').model
model.bbox_head.loss_cls = dict(type='BalancedFocalLoss', use_sigmoid=True, gamma=2.0, alpha=0.5)
model.bbox_head.num_classes = 4
model.backbone.init_cfg = None
model.data_preprocessor.batch_augments = None
# Synchronized between processes, batch normalization needs several.
for part in (model.backbone, model.neck, model.bbox_head):
    part.norm_cfg = dict(type='BN')
del part
