# The detectors of studies/bccd_final.py, started as MMDetection starts them: from a backbone of
# ImageNet, YOLOX-tiny from a detector of COCO; Darknet-19 from the weights of darknet_recipe.md.
# MMEngine downloads them. Not run yet: it has no table in docs/results.
_base_ = './bccd_final.py'
from mmengine.hub import get_config

_of_backbone = {
    'RTMDet-tiny': 'rtmdet/rtmdet_tiny_8xb32-300e_coco',
    'YOLOv3, MobileNetV2': 'yolo/yolov3_mobilenetv2_8xb24-320-300e_coco',
    'SSD300': 'ssd/ssd300_coco',
    'YOLOv3, Darknet-53': 'yolo/yolov3_d53_8xb8-ms-416-273e_coco',
    'RetinaNet, ResNet-50': 'retinanet/retinanet_r50_fpn_1x_coco',
}
_address = 'https://download.openmmlab.com/mmdetection/v2.0/yolox'
_yolox = 'yolox_tiny_8x8_300e_coco/yolox_tiny_8x8_300e_coco_20211124_171234-b4047906.pth'
_darknet19 = dict(type='PretrainedDarknet', checkpoint='weights/darknet19_448.conv.23')
baseline = 'YOLOv2, Darknet-19, focal'


def _from(row, init_cfg):
    """The backbones of the baselines have None, with which nothing can be merged."""
    backbone = dict(init_cfg=dict(init_cfg, _delete_=True))
    return dict(row.to_dict(), model=dict(backbone=backbone))


rows = {
    '_delete_': True,
    baseline: _from(_base_.rows[baseline], _darknet19),
    'YOLOX-tiny': dict(_base_.rows['YOLOX-tiny'].to_dict(), load_from=f'{_address}/{_yolox}'),
    **{
        _name: _from(_base_.rows[_name], get_config(f'mmdet::{_config}.py').model.backbone.init_cfg)
        for _name, _config in _of_backbone.items()
    },
}
