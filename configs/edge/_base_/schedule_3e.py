# Enough for the embedded street scenes; 80 epochs for a small data set of your own are in
# ../../_base_/schedules/schedule_from_scratch.py.
_base_ = '../../_base_/schedules/schedule_from_scratch.py'
max_epochs = 3
train_cfg = dict(max_epochs=max_epochs, val_interval=1)
optim_wrapper = dict(optimizer=dict(lr=0.002))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=100),
    dict(
        type='CosineAnnealingLR',
        by_epoch=True,
        begin=0,
        end=max_epochs,
        T_max=max_epochs,
        eta_min=1e-5,
        convert_to_iter_based=True,
    ),
]
auto_scale_lr = dict(base_batch_size=4)
