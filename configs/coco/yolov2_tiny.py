_base_ = [
    '../_base_/models/yolov2_tiny.py',
    '../_base_/datasets/coco_detection.py',
    '../_base_/schedules/schedule_160e.py',
    '../_base_/default_runtime.py',
]
model = dict(
    # yolov2-tiny.cfg narrows the last convolution, which yolov2-tiny-voc.cfg leaves at 1024, and
    # does not rescore.
    bbox_head=dict(
        num_classes=80,
        feat_channels=512,
        rescore=False,
        anchor_generator=dict(  # yolov2-tiny.cfg
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
