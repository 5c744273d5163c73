# SSD: FocalSSDHead takes a loss where SSDHead mines hard negatives.
_base_ = './_base_/traffic.py'
from mmengine.hub import get_config

model = get_config('mmdet::ssd/ssdlite_mobilenetv2-scratch_8xb24-600e_coco.py').model
model.bbox_head.type = 'FocalSSDHead'
model.bbox_head.loss_cls = dict(type='BalancedFocalLoss', use_sigmoid=True, gamma=2.0, alpha=0.25)
model.bbox_head.num_classes = 4
model.data_preprocessor.batch_augments = None
# Its anchors are laid out for 320x320.
train_pipeline = _base_.train_pipeline
test_pipeline = _base_.test_pipeline
tta_pipeline = _base_.tta_pipeline
train_pipeline[2].scale = (320, 320)
test_pipeline[1].scale = (320, 320)
tta_pipeline[1].scale = (320, 320)
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = dict(dataset=dict(pipeline=test_pipeline))
