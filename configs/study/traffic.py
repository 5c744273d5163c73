# The embedded street scenes with half of the images, for many runs on a CPU.
_base_ = '../yolov2_fl.py'
train_dataloader = dict(dataset=dict(num_images=1500))
train_cfg = dict(val_interval=3)
default_hooks = dict(checkpoint=dict(max_keep_ckpts=1, save_best=None))
