# The finalists of studies/bccd_*.py, once: `trainval` to `test`.
_base_ = './bccd.py'
train_dataloader = dict(dataset=dict(ann_file='ImageSets/Main/trainval.txt'))
val_dataloader = dict(dataset=dict(ann_file='ImageSets/Main/test.txt'))
test_dataloader = val_dataloader
