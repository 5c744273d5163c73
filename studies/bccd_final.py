# The best of ours against MMDetection's detectors: `trainval` to `test`, trained at 416x320 and
# tested at 480x384 (with cells of 16 pixels at 416x320), 40 epochs, from scratch, the same
# augmentation; learning rates by bccd_rates.py, but for those YOLOv2 that have 0.002, untuned.
# `python tools/study.py studies/bccd_final.py`
config = '../configs/study/bccd_final.py'
seeds = [10, 11, 12]  # not those by which it was chosen
baseline = 'YOLOv2, cross entropy'


def _other(name):
    return dict(config=f'../configs/baselines/bccd_{name}.py')


_cross_entropy = dict(gamma=0.0, alpha=None, loss_weight=1.0)
rows = {
    'YOLOv2, focal': dict(),
    'YOLOv2, cross entropy': dict(model=dict(bbox_head=dict(loss_obj=_cross_entropy))),
    'YOLOv2, cells of 16 pixels, focal': dict(config='../configs/study/bccd_stride16.py'),
    'YOLOv2, cells of 16 pixels, cross entropy': dict(
        config='../configs/study/bccd_stride16.py',
        model=dict(bbox_head=dict(loss_obj=_cross_entropy)),
    ),
    # What had won studies/bccd_losses.py, started as it did better in studies/bccd_prior.py.
    'YOLOv2, cells of 16 pixels, joint focal': dict(
        config='../configs/study/bccd_stride16.py',
        model=dict(
            bbox_head=dict(
                loss_obj=None,
                loss_cls=dict(
                    _delete_=True,
                    type='BalancedFocalLoss',
                    use_sigmoid=True,
                    gamma=2.0,
                    alpha=[0.09, 0.31, 0.31],
                    loss_weight=4.0,
                ),
            )
        ),
    ),
    'YOLOv2, half as wide, cells of 16 pixels, focal': dict(
        config='../configs/study/bccd_stride16_half.py'
    ),
    'YOLOv2, Darknet-19, cells of 16 pixels, focal': dict(
        config='../configs/study/bccd_stride16_darknet19.py'
    ),
    'YOLOv2, Darknet-19, cells of 16 pixels, cross entropy': dict(
        config='../configs/study/bccd_stride16_darknet19.py',
        model=dict(bbox_head=dict(loss_obj=_cross_entropy)),
    ),
    'YOLOv2, Darknet-19, focal': dict(config='../configs/study/bccd_darknet19.py'),
    'YOLOv2, Darknet-19, cross entropy': dict(
        config='../configs/study/bccd_darknet19.py',
        model=dict(bbox_head=dict(loss_obj=_cross_entropy)),
    ),
    'RTMDet-tiny': _other('rtmdet_tiny'),
    # As it had been run before bccd_rates.py.
    'RTMDet-tiny, learning rate 0.001': _other('rtmdet_tiny')
    | dict(optim_wrapper=dict(optimizer=dict(lr=0.001))),
    'YOLOX-tiny': _other('yolox_tiny'),
    'YOLOv3, MobileNetV2': _other('yolov3_mobilenetv2'),
    'SSD300': _other('ssd300'),
    'YOLOv3, Darknet-53': _other('yolov3_d53'),
    'RetinaNet, ResNet-50': _other('retinanet_r50'),
}
