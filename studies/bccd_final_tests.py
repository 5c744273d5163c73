# Were the size of the test and the suppression fair to all? The detectors of studies/bccd_final.py
# (train them first) on `test`, at the two sizes at which those were tested, and the others with the
# soft NMS and the threshold of YOLOv2.
_base_ = './bccd_tests.py'
from mmdet_yolo2fl.study import folder_name

seeds = [10, 11, 12]
baseline = 'YOLOX-tiny, at 480 x 384'
_at_sizes = {name: _base_.rows[name].to_dict() for name in ('at 416 x 320', 'at 480 x 384')}
_narrow = '../configs/study/bccd_final.py'
_cells16 = '../configs/study/bccd_stride16.py'
_detectors = {
    'YOLOv2, focal': _narrow,
    'YOLOv2, cross entropy': _narrow,
    'YOLOv2, cells of 16 pixels, focal': _cells16,
    'YOLOv2, cells of 16 pixels, cross entropy': _cells16,
    'YOLOv2, half as wide, cells of 16 pixels, focal': '../configs/study/bccd_stride16_half.py',
    'YOLOv2, Darknet-19, cells of 16 pixels, focal': (
        '../configs/study/bccd_stride16_darknet19.py'
    ),
}
_others = {
    'RTMDet-tiny': '../configs/baselines/bccd_rtmdet_tiny.py',
    'YOLOX-tiny': '../configs/baselines/bccd_yolox_tiny.py',
    'YOLOv3, MobileNetV2': '../configs/baselines/bccd_yolov3_mobilenetv2.py',
    'YOLOv3, Darknet-53': '../configs/baselines/bccd_yolov3_d53.py',
    'SSD300': '../configs/baselines/bccd_ssd300.py',
    'RetinaNet, ResNet-50': '../configs/baselines/bccd_retinanet_r50.py',
}
_soft = _base_.rows['soft NMS'].to_dict()['model']['test_cfg']
_as_yolov2 = dict(model=dict(test_cfg=dict(_soft, score_thr=0.005)))


def _trained(name):
    return f'../work_dirs/study/bccd_final/{folder_name(name)}/seed_{{seed}}/epoch_40.pth'


rows = {
    '_delete_': True,
    **{
        f'{_name}, {_size}': dict(config=_config, checkpoint=_trained(_name), **_change)
        for _name, _config in (_detectors | _others).items()
        for _size, _change in _at_sizes.items()
    },
    **{
        f'{_name}, soft NMS': dict(config=_config, checkpoint=_trained(_name), **_as_yolov2)
        for _name, _config in _others.items()
    },
}
