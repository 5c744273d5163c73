# As bccd_tests.py, on the street scenes, whose training has no crop; train that first:
# traffic_losses.py --rows 'focal, neither'.
config = '../configs/study/traffic.py'
checkpoint = '../work_dirs/study/traffic_losses/focal_neither/seed_{seed}/epoch_3.pth'
seeds = [0, 1, 2]
baseline = 'NMS at 0.45'


def _nms(**changes):
    return dict(model=dict(test_cfg=dict(nms=changes)))


def _at(width, height):
    """Drawn as before, and enlarged or reduced."""
    meta = ('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor', 'instances')
    pipeline = [
        dict(type='LoadImageFromFile'),
        dict(type='Resize', scale=(width, height), keep_ratio=False),
        dict(type='LoadAnnotations', with_bbox=True),
        dict(type='PackDetInputs', meta_keys=meta),
    ]
    return dict(test_dataloader=dict(dataset=dict(pipeline=pipeline)))


rows = {
    'NMS at 0.45': dict(),
    'NMS at 0.6': _nms(iou_threshold=0.6),
    'soft NMS': _nms(_delete_=True, type='soft_nms', iou_threshold=0.45, min_score=0.001),
    'at 352 x 224': _at(352, 224),
    'at 480 x 288': _at(480, 288),
    'at 512 x 320': _at(512, 320),
    'two views: flipped': dict(tta=True),
}
