# All that helped together, without training again: the detectors of `CIoU loss besides` in
# studies/bccd_modern.py (train those first), with soft NMS, and tested larger than trained.
config = '../configs/study/bccd.py'
checkpoint = '../work_dirs/study/bccd_modern/CIoU_loss_besides/seed_{seed}/epoch_30.pth'
seeds = [0, 1, 2]
baseline = 'CIoU loss besides'
_soft = dict(
    model=dict(
        test_cfg=dict(nms=dict(_delete_=True, type='soft_nms', iou_threshold=0.45, min_score=0.001))
    )
)


def _at(width, height):
    meta = ('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor', 'instances')
    pipeline = [
        dict(type='LoadImageFromFile'),
        dict(type='Resize', scale=(width, height), keep_ratio=False),
        dict(type='LoadAnnotations', with_bbox=True),
        dict(type='PackDetInputs', meta_keys=meta),
    ]
    return dict(test_dataloader=dict(dataset=dict(pipeline=pipeline)))


rows = {
    'CIoU loss besides': dict(),
    'soft NMS': _soft,
    'at 384 x 320': _at(384, 320),
    'at 416 x 320': _at(416, 320),
    'at 448 x 352': _at(448, 352),
    'at 416 x 320, soft NMS': dict(_at(416, 320), **_soft),
}
