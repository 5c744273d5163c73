# One channel, for a grey camera (or the Y of a YUV picture). The same lines make any preset grey.
_base_ = './yolov2_tiny_320x240.py'
grey = dict(type='RandomGrayscale', prob=1.0, channel_weights=(0.114, 0.587, 0.299))
train_pipeline = _base_.train_pipeline
test_pipeline = _base_.test_pipeline
tta_pipeline = _base_.tta_pipeline
train_pipeline.insert(-1, grey)
test_pipeline.insert(-1, grey)
tta_pipeline.insert(-1, grey)
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
model = dict(
    data_preprocessor=dict(mean=[0.0], std=[255.0], bgr_to_rgb=False),
    backbone=dict(in_channels=1),
)
