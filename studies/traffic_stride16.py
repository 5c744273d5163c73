# Cells of 16 pixels in place of 32 on the street scenes: `focal, neither` of traffic_losses.py, and
# the same without the last stage of the backbone (as in bccd_modern.py).
config = '../configs/study/traffic.py'
seeds = [0, 1, 2]
baseline = 'focal, neither'
_neither = dict(prior_prob=None, normalizer='batch')
rows = {
    'focal, neither': dict(model=dict(bbox_head=_neither)),
    'cells of 16 pixels': dict(
        model=dict(
            backbone=dict(out_indices=(3, 4)),
            neck=dict(in_channels=(64, 128), out_channels=128, passthrough_channels=32),
            bbox_head=dict(
                **_neither,
                in_channels=256,
                feat_channels=128,
                # Those of yolov2_fl.py in pixels.
                anchor_generator=dict(
                    stride=16,
                    anchors=[(1.92, 1.36), (3.3, 1.96), (2.42, 6.14), (5.32, 3.42), (8.78, 5.92)],
                ),
            ),
        )
    ),
}
