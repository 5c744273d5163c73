# As bccd_final.py, with cells of 16 pixels in place of 32: Darknet-19 without its last stage, for
# small objects (studies/bccd_modern.py). 0.9 million weights in place of 3.3, and nine tenths of
# the computing. Tested at the size of the training: studies/bccd_stride16_tests.py.
_base_ = './bccd_final.py'
model = dict(
    backbone=dict(out_indices=(3, 4)),
    neck=dict(in_channels=(64, 128), out_channels=128, passthrough_channels=32),
    bbox_head=dict(
        in_channels=256,
        feat_channels=128,
        # Those of bccd_final.py in pixels: tools/cluster_anchors.py counts in cells.
        anchor_generator=dict(
            stride=16,
            anchors=[(1.62, 1.62), (4.06, 3.42), (3.86, 4.34), (4.82, 4.58), (8.7, 8.06)],
        ),
    ),
)
test_pipeline = _base_.test_pipeline
test_pipeline[1].scale = (416, 320)
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
