# SSD with VGG-16, MMDetection's, at the size of the others.
_base_ = './_base_/bccd.py'
from mmengine.hub import get_config

model = get_config('mmdet::ssd/ssd300_coco.py').model
model.bbox_head.num_classes = 3
model.backbone.init_cfg = None
# In place of YOLOv2, not merged into it.
model._delete_ = True
# Its last maps need 300 pixels; that is a tenth more of them than the others get.
train_pipeline = _base_.train_pipeline
test_pipeline = _base_.test_pipeline
train_pipeline[3].scale = (300, 300)
test_pipeline[1].scale = (300, 300)
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = dict(dataset=dict(pipeline=test_pipeline))
