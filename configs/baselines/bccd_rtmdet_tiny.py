# RTMDet-tiny, MMDetection's.
_base_ = './_base_/bccd.py'
from mmengine.hub import get_config

model = get_config('mmdet::rtmdet/rtmdet_tiny_8xb32-300e_coco.py').model
model.bbox_head.num_classes = 3
model.backbone.init_cfg = None
model.data_preprocessor.batch_augments = None
for part in (model.backbone, model.neck, model.bbox_head):
    part.norm_cfg = dict(type='BN')  # synchronized between processes, it needs several
# In place of YOLOv2, not merged into it.
model._delete_ = True
del part
optim_wrapper = dict(optimizer=dict(lr=0.002))  # studies/bccd_rates.py
