# MobileNetV2 for small processors: ReLU in place of ReLU6, no pass-through, and no 3x3 convolution
# behind its 1280 channels, which would weigh more than all the rest.
_base_ = '../../_base_/models/yolov2_mobilenetv2_fl.py'
model = dict(
    # 240 rows go in as they are: its convolutions make 8 rows of cells of them.
    data_preprocessor=dict(batch_augments=None, pad_size_divisor=1),
    backbone=dict(out_indices=(7,), act_cfg=dict(type='ReLU')),
    neck=None,
    bbox_head=dict(in_channels=1280, stacked_convs=0),
)
