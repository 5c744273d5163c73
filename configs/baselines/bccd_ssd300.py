# SSD with VGG-16, MMDetection's, at the size of the others.
_base_ = './_base_/bccd.py'
from mmengine.hub import get_config

model = get_config('mmdet::ssd/ssd300_coco.py').model
model.bbox_head.update(type='MinedSSDHead', num_classes=3)  # SSDHead cannot predict
model.backbone.init_cfg = None
# Those of SSD300 are the distances of its maps' cells in 300x300 pixels; here there are 416x320.
model.bbox_head.anchor_generator.strides = [8, 16, 32, (59, 64), (83, 107), (139, 320)]
# In place of YOLOv2, not merged into it.
model._delete_ = True
optim_wrapper = dict(optimizer=dict(lr=0.0005))  # studies/bccd_rates.py
