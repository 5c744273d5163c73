# Conditional DETR: the loss, and the same gamma and alpha in the cost of the matching.
_base_ = './_base_/traffic.py'
from mmengine.hub import get_config

model = get_config('mmdet::conditional_detr/conditional-detr_r50_8xb2-50e_coco.py').model
model.bbox_head.loss_cls = dict(
    type='BalancedFocalLoss', use_sigmoid=True, gamma=2.0, alpha=0.25, loss_weight=2.0
)
model.train_cfg.assigner.match_costs[0] = dict(
    type='FocalLossCost', gamma=2.0, alpha=0.25, weight=2.0
)
model.bbox_head.num_classes = 4
model.backbone.update(
    depth=18,
    init_cfg=None,
    frozen_stages=-1,
    norm_eval=False,
    norm_cfg=dict(type='BN', requires_grad=True),
)
model.neck.in_channels = [512]
# A transformer wants smaller steps.
optim_wrapper = dict(optimizer=dict(lr=0.0001, weight_decay=0.0001), clip_grad=dict(max_norm=0.1))
