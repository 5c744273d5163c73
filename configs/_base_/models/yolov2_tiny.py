# Tiny YOLOv2 (yolov2-tiny-voc.cfg): no pass-through, the map goes straight to the head.
_base_ = './yolov2.py'
model = dict(
    backbone=dict(_delete_=True, type='DarknetTiny'),
    neck=None,
    bbox_head=dict(
        in_channels=1024,
        feat_channels=1024,
        anchor_generator=dict(
            anchors=[(1.08, 1.19), (3.42, 4.41), (6.63, 11.38), (9.42, 5.11), (16.62, 10.52)]
        ),
    ),
)
