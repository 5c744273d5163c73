# YOLOv2 on MMDetection's MobileNetV2; any backbone with a stride-16 and a stride-32 map fits.
_base_ = './yolov2_fl.py'
model = dict(
    backbone=dict(_delete_=True, type='MobileNetV2', out_indices=(4, 7), norm_cfg=dict(type='BN')),
    neck=dict(in_channels=(96, 1280), out_channels=512, num_convs=1),
    bbox_head=dict(in_channels=768, feat_channels=512),
)
