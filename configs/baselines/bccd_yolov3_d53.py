# YOLOv3 with Darknet-53, MMDetection's.
_base_ = './_base_/bccd.py'
from mmengine.hub import get_config

model = get_config('mmdet::yolo/yolov3_d53_8xb8-ms-416-273e_coco.py').model
model.bbox_head.num_classes = 3
model.backbone.init_cfg = None
# In place of YOLOv2, not merged into it.
model._delete_ = True
# Its activations begin near 30,000 and leave float16, which ends at 65,504.
optim_wrapper = dict(dtype='bfloat16')
