# bccd_stride16.py on the whole Darknet-19 without its last stage, 14.1 million weights: for a GPU,
# or a CPU with bfloat16.
_base_ = './bccd_stride16.py'
model = dict(
    backbone=dict(widen_factor=1.0),
    neck=dict(in_channels=(256, 512), out_channels=512, passthrough_channels=128),
    bbox_head=dict(in_channels=1024, feat_channels=512),
)
optim_wrapper = dict(optimizer=dict(lr=0.001))  # as bccd_darknet19.py
