_base_ = [
    '../_base_/models/yolov2_modern.py',
    '../_base_/datasets/coco_detection.py',
    '../_base_/schedules/schedule_160e.py',
    '../_base_/default_runtime.py',
]
model = dict(
    bbox_head=dict(
        num_classes=80,
        anchor_generator=dict(  # yolov2.cfg
            anchors=[
                (0.57273, 0.677385),
                (1.87446, 2.06253),
                (3.33843, 5.47434),
                (7.88282, 3.52778),
                (9.77052, 9.16828),
            ]
        ),
    )
)
default_hooks = dict(checkpoint=dict(save_best='coco/bbox_mAP'))
