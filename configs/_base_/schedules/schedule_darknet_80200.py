# The schedule of Darknet's yolov2-voc.cfg. Counts are Darknet's batches of 64 images, each an
# update of the weights; only the loop itself counts mini-batches. It needs, in the config above it,
# `default_hooks = dict(param_scheduler=dict(type='AccumulatedParamSchedulerHook'))`.
accumulate = 8  # [net] subdivisions: mini-batches of 8 images to a batch of 64
max_batches = 80200
train_cfg = dict(
    type='IterBasedTrainLoop',
    max_iters=max_batches * accumulate,
    val_interval=2000 * accumulate,
)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
param_scheduler = [
    dict(type='BurnInLR', by_epoch=False, burn_in=1000, power=4),
    # Darknet's batches begin at 1, MMEngine's steps at 0: from batch 40000 on, and from 60000 on.
    dict(type='MultiStepLR', by_epoch=False, milestones=[39999, 59999], gamma=0.1),
]
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='SGD', lr=0.001, momentum=0.9, weight_decay=0.0005),
    # Darknet decays neither biases nor batch normalization.
    paramwise_cfg=dict(bias_decay_mult=0.0, norm_decay_mult=0.0),
    accumulative_counts=accumulate,
)
# The rate is for 64 images. `--auto-scale-lr` looks at mini-batches alone: change the batch size,
# and it adapts the rate to `accumulate` times that.
auto_scale_lr = dict(enable=False, base_batch_size=64 // accumulate)
