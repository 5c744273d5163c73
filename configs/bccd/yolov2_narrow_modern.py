# Half as wide and at one size, for CPUs: yolov2_narrow_fl.py with what helped beside the loss.
_base_ = './yolov2_modern.py'

model = dict(
    data_preprocessor=dict(batch_augments=None),
    backbone=dict(widen_factor=0.5),
    neck=dict(in_channels=(256, 512), out_channels=512, passthrough_channels=32),
    bbox_head=dict(in_channels=640, feat_channels=512),
)
# Tested larger than trained: the crop of the training enlarges what it shows.
test_pipeline = _base_.test_pipeline
test_pipeline[1].scale = (480, 480)
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
tta_pipeline = test_pipeline[:-1] + _base_.tta_pipeline[-1:]
# bfloat16 on a CPU that has it (avx512_bf16, AMX), float16 on a GPU.
optim_wrapper = dict(type='YOLOV2AmpOptimWrapper')
custom_hooks = _base_.custom_hooks + [dict(type='ChannelsLastHook')]
