# Does focal loss help beyond the YOLOv2 by which it was chosen? Two of MMDetection's detectors, on
# the objectness as docs/focal_loss_anywhere.md writes it, and YOLOv2 on the whole Darknet-19; data,
# sizes, budget and seeds of studies/bccd_final.py.
config = '../configs/study/bccd_final.py'
seeds = [10, 11, 12]
baseline = 'YOLOX-tiny, cross entropy'
_focal = dict(
    _delete_=True,
    type='BalancedFocalLoss',
    use_sigmoid=True,
    gamma=2.0,
    alpha=0.25,
    reduction='sum',
    loss_weight=4.0,
)
_yolox = dict(config='../configs/baselines/bccd_yolox_tiny.py')
_yolov3 = dict(config='../configs/baselines/bccd_yolov3_mobilenetv2.py')
_darknet19 = dict(config='../configs/study/bccd_stride16_darknet19.py')
_cross_entropy = dict(gamma=0.0, alpha=None, loss_weight=1.0)
rows = {
    'YOLOX-tiny, cross entropy': _yolox,
    'YOLOX-tiny, focal': _yolox | dict(model=dict(bbox_head=dict(loss_obj=_focal))),
    'YOLOv3, MobileNetV2, cross entropy': _yolov3,
    'YOLOv3, MobileNetV2, focal': _yolov3 | dict(model=dict(bbox_head=dict(loss_conf=_focal))),
    'YOLOv2, Darknet-19, cells of 16 pixels, cross entropy': _darknet19
    | dict(model=dict(bbox_head=dict(loss_obj=_cross_entropy))),
    'YOLOv2, Darknet-19, cells of 16 pixels, focal': _darknet19,
}
