# Learning rates for studies/bccd_final.py: `train` to `val`, 15 epochs, one seed, else the same.
# `python tools/study.py studies/bccd_rates.py`
_rates = (0.0005, 0.001, 0.002)
_on_val = dict(
    train_dataloader=dict(dataset=dict(ann_file='ImageSets/Main/train.txt')),
    val_dataloader=dict(dataset=dict(ann_file='ImageSets/Main/val.txt')),
    test_dataloader=dict(dataset=dict(ann_file='ImageSets/Main/val.txt')),
)
_cross_entropy = dict(gamma=0.0, alpha=None, loss_weight=1.0)
_detectors = {
    'YOLOv2, Darknet-19, focal': dict(config='../configs/study/bccd_darknet19.py'),
    'YOLOv2, Darknet-19, cross entropy': dict(
        config='../configs/study/bccd_darknet19.py',
        model=dict(bbox_head=dict(loss_obj=_cross_entropy)),
    ),
    'RTMDet-tiny': dict(config='../configs/baselines/bccd_rtmdet_tiny.py'),
    'YOLOX-tiny': dict(config='../configs/baselines/bccd_yolox_tiny.py'),
    'YOLOv3, MobileNetV2': dict(config='../configs/baselines/bccd_yolov3_mobilenetv2.py'),
    'SSD300': dict(config='../configs/baselines/bccd_ssd300.py'),
    'YOLOv3, Darknet-53': dict(config='../configs/baselines/bccd_yolov3_d53.py'),
    'RetinaNet, ResNet-50': dict(config='../configs/baselines/bccd_retinanet_r50.py'),
}
seeds = [0]
budget = dict(images=3075)  # 15 epochs
rows = {
    f'{_name}, {_rate}': dict(**_detector, **_on_val, optim_wrapper=dict(optimizer=dict(lr=_rate)))
    for _rate in _rates
    for _name, _detector in _detectors.items()
}
