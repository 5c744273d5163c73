# bccd_final.py on the whole Darknet-19: for a GPU.
_base_ = './bccd_final.py'
model = dict(
    backbone=dict(widen_factor=1.0),
    neck=dict(in_channels=(512, 1024), out_channels=1024, passthrough_channels=64),
    bbox_head=dict(in_channels=1280, feat_channels=1024),
)
optim_wrapper = dict(optimizer=dict(lr=0.001))  # studies/bccd_rates.py
