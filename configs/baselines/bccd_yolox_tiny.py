# YOLOX-tiny, MMDetection's, without its mosaic; with the L1 loss of its last epochs.
_base_ = './_base_/bccd.py'
from mmengine.hub import get_config

model = get_config('mmdet::yolox/yolox_tiny_8xb8-300e_coco.py').model
model.bbox_head.num_classes = 3
model.data_preprocessor.batch_augments = None
# In place of YOLOv2, not merged into it.
model._delete_ = True
# The hook that switches the L1 loss on switches off what it names, here nothing, in a data set of
# this type. It begins an epoch before the number says: 2 of 40 here, 16 of 300 there.
train_dataloader = dict(
    dataset=dict(
        _delete_=True,
        type='MultiImageMixDataset',
        dataset=_base_.train_dataloader.dataset,
        pipeline=[],
    )
)
custom_hooks = _base_.custom_hooks + [dict(type='YOLOXModeSwitchHook', num_last_epochs=1)]
