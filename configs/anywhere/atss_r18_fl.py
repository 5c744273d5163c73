# ATSS with the equalized form: a gamma and a weight for each class, from its gradients.
_base_ = './_base_/traffic.py'
from mmengine.hub import get_config

model = get_config('mmdet::atss/atss_r18_fpn_8xb8-amp-lsj-200e_coco.py').model
model.bbox_head.loss_cls = dict(type='EqualizedFocalLoss', num_classes=4, use_sigmoid=True)
model.bbox_head.num_classes = 4
model.backbone.update(init_cfg=None, frozen_stages=-1, norm_eval=False)
model.data_preprocessor.batch_augments = None
# One state for all GPUs.
custom_hooks = _base_.custom_hooks + [dict(type='AdaptiveLossSyncHook')]
