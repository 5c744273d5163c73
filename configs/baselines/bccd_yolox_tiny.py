# YOLOX-tiny, MMDetection's, without its mosaic.
_base_ = './_base_/bccd.py'
from mmengine.hub import get_config

model = get_config('mmdet::yolox/yolox_tiny_8xb8-300e_coco.py').model
model.bbox_head.num_classes = 3
model.data_preprocessor.batch_augments = None
# In place of YOLOv2, not merged into it.
model._delete_ = True
