# The pictures of traffic_320x240.py, squeezed to 224x224.
_base_ = './traffic_320x240.py'
image_size = (224, 224)
train_pipeline = _base_.train_pipeline
test_pipeline = _base_.test_pipeline
tta_pipeline = _base_.tta_pipeline
train_pipeline[2].scale = image_size
test_pipeline[1].scale = image_size
tta_pipeline[1].scale = image_size
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
