# From scratch on a small data set: AdamW, a short warm-up, a cosine down to nearly nothing.
max_epochs = 80
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=max_epochs, val_interval=10)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
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
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=0.001, weight_decay=0.05),
    paramwise_cfg=dict(bias_decay_mult=0.0, norm_decay_mult=0.0),
    clip_grad=dict(max_norm=35, norm_type=2),
)
# The learning rate is for 8 images a step; `--auto-scale-lr` adapts it to yours. (It looks at
# mini-batches alone: with `accumulative_counts=2` set base_batch_size=4.)
auto_scale_lr = dict(enable=False, base_batch_size=8)
