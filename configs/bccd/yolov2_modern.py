_base_ = [
    '../_base_/models/yolov2_modern.py',
    '../_base_/datasets/bccd.py',
    '../_base_/schedules/schedule_from_scratch.py',
    '../_base_/default_runtime.py',
]
model = dict(
    bbox_head=dict(
        num_classes=3,
        # tools/cluster_anchors.py on trainval at 416: average IoU 0.85
        anchor_generator=dict(
            anchors=[(0.81, 1.05), (1.93, 2.82), (2.03, 2.23), (2.42, 2.98), (4.36, 5.25)]
        ),
    )
)
