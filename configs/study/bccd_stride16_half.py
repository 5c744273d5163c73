# As bccd_stride16.py, twice as wide, that is half as wide as Darknet-19. 3.5 million
# weights.
_base_ = './bccd_stride16.py'
model = dict(
    backbone=dict(widen_factor=0.5),
    neck=dict(in_channels=(128, 256), out_channels=256, passthrough_channels=64),
    bbox_head=dict(in_channels=512, feat_channels=256),
)
