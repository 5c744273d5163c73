# The embedded street scenes as a QVGA camera sees them, whole. For images of your own, put another
# data set in place of this file, and its number of classes and its anchors into the preset.
_base_ = '../../_base_/datasets/tiny_traffic.py'
image_size = (320, 240)
train_pipeline = _base_.train_pipeline
test_pipeline = _base_.test_pipeline
tta_pipeline = _base_.tta_pipeline
train_pipeline[2].scale = image_size
test_pipeline[1].scale = image_size
tta_pipeline[1].scale = image_size
train_dataloader = dict(batch_size=4, dataset=dict(image_size=(320, 240), pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(image_size=(320, 240), pipeline=test_pipeline))
test_dataloader = val_dataloader
