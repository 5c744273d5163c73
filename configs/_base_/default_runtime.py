# What every run shares. `custom_imports` is the line that brings the package in.
custom_imports = dict(imports=['mmdet_yolo2fl'], allow_failed_imports=False)
default_scope = 'mmdet'

default_hooks = dict(
    timer=dict(type='IterTimerHook'),
    logger=dict(type='LoggerHook', interval=50),
    param_scheduler=dict(type='ParamSchedulerHook'),
    # Survives a kill at any moment; the newest three are kept.
    checkpoint=dict(type='AtomicCheckpointHook', interval=1, max_keep_ckpts=3, save_best='auto'),
    sampler_seed=dict(type='DistSamplerSeedHook'),
    visualization=dict(type='DetVisualizationHook'),
)
custom_hooks = [
    dict(type='NumClassCheckHook'),
    # Stops at a NaN or infinite loss, and names the term and the iteration.
    dict(type='NonFiniteLossHook'),
    # A resumed run draws the random numbers that the uninterrupted one would have drawn.
    dict(type='RandomStateHook'),
]

env_cfg = dict(
    cudnn_benchmark=False,  # multi-scale training changes the input size every few batches
    mp_cfg=dict(mp_start_method='fork', opencv_num_threads=0),
    dist_cfg=dict(backend='nccl'),
)
tta_model = dict(
    type='DetTTAModel', tta_cfg=dict(nms=dict(type='nms', iou_threshold=0.5), max_per_img=100)
)
vis_backends = [dict(type='LocalVisBackend')]
visualizer = dict(type='DetLocalVisualizer', vis_backends=vis_backends, name='visualizer')
log_processor = dict(type='LogProcessor', window_size=50, by_epoch=True)
log_level = 'INFO'
load_from = None
resume = False
