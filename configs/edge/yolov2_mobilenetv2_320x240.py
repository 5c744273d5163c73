_base_ = [
    './_base_/yolov2_mobilenetv2.py',
    './_base_/traffic_320x240.py',
    './_base_/schedule_3e.py',
    '../_base_/default_runtime.py',
]
model = dict(
    bbox_head=dict(
        num_classes=4,
        # tools/cluster_anchors.py configs/edge/yolov2_mobilenetv2_320x240.py: average IoU 0.729
        anchor_generator=dict(
            anchors=[(0.94, 0.66), (1.53, 0.92), (1.09, 2.93), (2.29, 1.54), (3.67, 2.56)]
        ),
    )
)
default_hooks = dict(checkpoint=dict(save_best='coco/bbox_mAP'))
