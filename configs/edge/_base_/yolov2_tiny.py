# Tiny YOLOv2 for small processors: half as wide (4 million weights), ReLU, nothing but
# convolutions and pooling.
_base_ = '../../_base_/models/yolov2_tiny_fl.py'
act_cfg = dict(type='ReLU')
model = dict(
    # 240 rows go in as they are, and the pooling keeps the last one of 15: 8 rows of cells.
    data_preprocessor=dict(batch_augments=None, pad_size_divisor=1),
    backbone=dict(widen_factor=0.5, ceil_mode=True, act_cfg=act_cfg),
    bbox_head=dict(in_channels=512, feat_channels=512, act_cfg=act_cfg),
)
