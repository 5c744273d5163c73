# RetinaNet: focal loss is its own; here with an alpha for each class.
_base_ = './_base_/traffic.py'
from mmengine.hub import get_config

model = get_config('mmdet::retinanet/retinanet_r18_fpn_1x_coco.py').model
model.bbox_head.loss_cls = dict(
    # car, truck, pedestrian, cyclist: as tools/imbalance_report.py suggests
    type='BalancedFocalLoss',
    use_sigmoid=True,
    gamma=2.0,
    alpha=[0.19, 0.22, 0.26, 0.32],
)
model.bbox_head.num_classes = 4
# From scratch: nothing to download, nothing frozen.
model.backbone.update(init_cfg=None, frozen_stages=-1, norm_eval=False)
