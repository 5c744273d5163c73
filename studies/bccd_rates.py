# Learning rates for studies/bccd_final.py: `train` to `val`, 15 epochs, one seed, else the same.
# `python tools/study.py studies/bccd_rates.py`
_base_ = './bccd_final.py'
_final = _base_.rows
_train = dict(ann_file='ImageSets/Main/train.txt')
_on_val = dict(
    val_dataloader=dict(dataset=dict(ann_file='ImageSets/Main/val.txt')),
    test_dataloader=dict(dataset=dict(ann_file='ImageSets/Main/val.txt')),
)
seeds = [0]
budget = dict(images=3075)  # 15 epochs
baseline = None
rows = dict(
    _delete_=True,
    **{
        f'{_name}, {_rate}': _row
        | _on_val
        | dict(
            # YOLOX has its images in a data set within another.
            train_dataloader=dict(dataset=dict(dataset=_train) if 'YOLOX' in _name else _train),
            optim_wrapper=dict(optimizer=dict(lr=_rate)),
        )
        for _rate in (0.0005, 0.001, 0.002)
        for _name, _row in _final.items()
        # All but the narrow YOLOv2 and cells of 16 pixels, which have untuned ones.
        if 'config' in _row and 'cells of 16' not in _name and 'rate' not in _name
    },
)
