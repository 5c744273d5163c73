# The embedded street scenes with half of the images, for many runs on a CPU.
_base_ = '../yolov2_fl.py'
# As RetinaNet starts and divides, unlike the shipped configs: see studies/bccd_prior.py.
model = dict(bbox_head=dict(normalizer='num_pos', prior_prob=0.01))
train_dataloader = dict(dataset=dict(num_images=1500))
train_cfg = dict(val_interval=3)
default_hooks = dict(checkpoint=dict(max_keep_ckpts=1, save_best=None))
