_base_ = [
    './_base_/yolov2_mobilenetv2.py',
    './_base_/traffic_224x224.py',
    './_base_/schedule_3e.py',
    '../_base_/default_runtime.py',
]
model = dict(
    bbox_head=dict(
        num_classes=4,
        # tools/cluster_anchors.py configs/edge/yolov2_mobilenetv2_224.py: average IoU 0.729
        anchor_generator=dict(
            anchors=[(0.66, 0.62), (1.07, 0.86), (0.76, 2.74), (1.60, 1.43), (2.57, 2.39)]
        ),
    )
)
default_hooks = dict(checkpoint=dict(save_best='coco/bbox_mAP'))
