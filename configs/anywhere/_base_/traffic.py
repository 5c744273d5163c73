# What the detectors here share: the embedded street scenes, from scratch, one size.
_base_ = ['../../_base_/datasets/tiny_traffic.py', '../../_base_/default_runtime.py']
max_epochs = 3
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=max_epochs, val_interval=1)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=0.0005, weight_decay=0.05),
    # RTMDet shares convolutions between its levels.
    paramwise_cfg=dict(bias_decay_mult=0.0, norm_decay_mult=0.0, bypass_duplicate=True),
    clip_grad=dict(max_norm=35, norm_type=2),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=100),
    dict(
        type='CosineAnnealingLR',
        by_epoch=True,
        begin=0,
        end=max_epochs,
        T_max=max_epochs,
        eta_min=1e-5,
        convert_to_iter_based=True,
    ),
]
train_dataloader = dict(batch_size=4)
auto_scale_lr = dict(enable=False, base_batch_size=4)
# 'auto' would be the AP of the first class.
default_hooks = dict(checkpoint=dict(save_best='coco/bbox_mAP'))
custom_hooks = _base_.custom_hooks + [dict(type='FocalLossAnalysisHook')]
