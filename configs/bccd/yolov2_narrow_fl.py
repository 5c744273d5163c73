# Half as wide and at one size: trains within an hour on two CPU cores.
_base_ = './yolov2_fl.py'

model = dict(
    data_preprocessor=dict(batch_augments=None),
    backbone=dict(widen_factor=0.5),
    neck=dict(in_channels=(256, 512), out_channels=512, passthrough_channels=32),
    bbox_head=dict(in_channels=640, feat_channels=512),
)
# bfloat16 on a CPU that has it (avx512_bf16, AMX), float16 on a GPU.
optim_wrapper = dict(type='YOLOV2AmpOptimWrapper')
custom_hooks = _base_.custom_hooks + [dict(type='ChannelsLastHook')]
