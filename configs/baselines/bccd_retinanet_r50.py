# RetinaNet with ResNet-50, MMDetection's.
_base_ = './_base_/bccd.py'
from mmengine.hub import get_config

model = get_config('mmdet::retinanet/retinanet_r50_fpn_1x_coco.py').model
# The same loss by its gamma and alpha, in mixed precision: MMCV's on a GPU is NaN for float16
# logits above 8.3, and knows no bfloat16.
model.bbox_head.loss_cls.type = 'BalancedFocalLoss'
model.bbox_head.num_classes = 3
model.backbone.update(init_cfg=None, frozen_stages=-1, norm_eval=False)
# In place of YOLOv2, not merged into it.
model._delete_ = True
optim_wrapper = dict(optimizer=dict(lr=0.0005), dtype='bfloat16')
