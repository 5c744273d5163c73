# What can be changed without training again, on the best config of studies/bccd_ablation.py (focal
# loss without prior, divided by the images; train that first: --rows neither): NMS, flips, sizes.
config = '../configs/study/bccd.py'
checkpoint = '../work_dirs/study/bccd_ablation/neither/seed_{seed}/epoch_30.pth'
seeds = [0, 1, 2]
baseline = 'NMS at 0.45'
_meta = ('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor', 'instances')
_load = dict(type='LoadImageFromFile')
_truths = dict(type='LoadAnnotations', with_bbox=True)


def _test(**changes):
    return dict(model=dict(test_cfg=changes))


def _nms(**changes):
    return _test(nms=changes)


def _resize(width, height):
    return dict(type='Resize', scale=(width, height), keep_ratio=False)


def _at(width, height):
    pipeline = [
        _load,
        _resize(width, height),
        _truths,
        dict(type='PackDetInputs', meta_keys=_meta),
    ]
    return dict(test_dataloader=dict(dataset=dict(pipeline=pipeline)))


def _views(sizes, directions):
    """The plain image first: its truths are those of the merged sample."""
    flips = [dict(type='RandomFlip', prob=0.0)]
    flips += [dict(type='RandomFlip', prob=1.0, direction=direction) for direction in directions]
    pack = dict(type='PackDetInputs', meta_keys=(*_meta, 'flip', 'flip_direction'))
    views = [[_resize(*size) for size in sizes], flips, [_truths], [pack]]
    return dict(tta=True, tta_pipeline=[_load, dict(type='TestTimeAug', transforms=views)])


_soft = _nms(_delete_=True, type='soft_nms', iou_threshold=0.45, min_score=0.001)
_flips = ['horizontal', 'vertical', 'diagonal']
_sizes = [(320, 256), (256, 192), (384, 320)]
rows = {
    'NMS at 0.45': dict(),
    'NMS at 0.3': _nms(iou_threshold=0.3),
    'NMS at 0.6': _nms(iou_threshold=0.6),
    'soft NMS': _soft,
    'scores from 0.001': _test(score_thr=0.001),
    'at 256 x 192': _at(256, 192),
    'at 384 x 320': _at(384, 320),
    'at 416 x 320': _at(416, 320),
    'at 480 x 384': _at(480, 384),
    'at 416 x 320, soft NMS': dict(_at(416, 320), **_soft),
    'two views: flipped': _views(_sizes[:1], _flips[:1]),
    'four views: flipped each way': _views(_sizes[:1], _flips),
    'three views: sizes': _views(_sizes, []),
    'twelve views: sizes, flipped each way': _views(_sizes, _flips),
}
