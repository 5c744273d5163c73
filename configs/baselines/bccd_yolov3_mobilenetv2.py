# YOLOv3 with MobileNetV2, MMDetection's.
_base_ = './_base_/bccd.py'
from mmengine.hub import get_config

model = get_config('mmdet::yolo/yolov3_mobilenetv2_8xb24-320-300e_coco.py').model
model.bbox_head.num_classes = 3
model.backbone.init_cfg = None
# In place of YOLOv2, not merged into it.
model._delete_ = True
