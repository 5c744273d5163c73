# What MMDetection's detectors share here: data, augmentation, budget and schedule of
# configs/study/bccd_final.py, from scratch. Pretrained: studies/bccd_pretrained.py.
_base_ = '../../study/bccd_final.py'
optim_wrapper = dict(
    optimizer=dict(lr=0.001),
    # RTMDet shares convolutions between its levels.
    paramwise_cfg=dict(bypass_duplicate=True),
)
