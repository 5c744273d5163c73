# SSD with VGG-16, MMDetection's, at the size of the others.
_base_ = './_base_/bccd.py'
from mmengine.hub import get_config

model = get_config('mmdet::ssd/ssd300_coco.py').model
model.bbox_head.num_classes = 3
model.backbone.init_cfg = None
# In place of YOLOv2, not merged into it.
model._delete_ = True
