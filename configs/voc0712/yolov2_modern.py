_base_ = [
    '../_base_/models/yolov2_modern.py',
    '../_base_/datasets/voc0712.py',
    '../_base_/schedules/schedule_160e.py',
    '../_base_/default_runtime.py',
]
