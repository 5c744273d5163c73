# YOLO9000, section 2, "Training for detection": 160 epochs from 1e-3, a tenth after 60 and 90.
# (There from weights of ImageNet, which the configs here do not have by themselves.)
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=160, val_interval=5)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
param_scheduler = [
    dict(type='LinearLR', start_factor=0.001, by_epoch=False, begin=0, end=1000),
    dict(type='MultiStepLR', by_epoch=True, begin=0, end=160, milestones=[60, 90], gamma=0.1),
]
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='SGD', lr=0.001, momentum=0.9, weight_decay=0.0005),
    # Darknet decays neither biases nor batch normalization.
    paramwise_cfg=dict(bias_decay_mult=0.0, norm_decay_mult=0.0),
    clip_grad=dict(max_norm=35, norm_type=2),
)
# The learning rate is for 64 images a step; `--auto-scale-lr` adapts it to yours. (It looks at
# mini-batches alone: with `accumulative_counts=2` set base_batch_size=32.)
auto_scale_lr = dict(enable=False, base_batch_size=64)
