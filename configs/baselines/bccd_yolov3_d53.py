# YOLOv3 with Darknet-53, MMDetection's.
_base_ = './_base_/bccd.py'
from mmengine.hub import get_config

model = get_config('mmdet::yolo/yolov3_d53_8xb8-ms-416-273e_coco.py').model
model.bbox_head.num_classes = 3
# Its batch norm keeps the statistics of pretrained weights; here there are none to keep.
model.backbone.update(init_cfg=None, norm_eval=False)
# In place of YOLOv2, not merged into it.
model._delete_ = True
