# As bccd_modern_tests.py, for the detectors with cells of 16 pixels of studies/bccd_modern.py
# (train those first): does it still help to test larger than trained?
_base_ = './bccd_modern_tests.py'
checkpoint = (
    '../work_dirs/study/bccd_modern/cells_of_16_pixels_as_much_computing/seed_{seed}/epoch_30.pth'
)
baseline = 'cells of 16 pixels'
_model = dict(
    backbone=dict(out_indices=(3, 4)),
    neck=dict(in_channels=(64, 128), out_channels=128, passthrough_channels=32),
    bbox_head=dict(
        in_channels=256,
        feat_channels=128,
        anchor_generator=dict(
            stride=16,
            anchors=[(1.24, 1.3), (3.14, 2.76), (2.98, 3.48), (3.72, 3.66), (6.62, 6.42)],
        ),
    ),
)
rows = {
    '_delete_': True,
    'cells of 16 pixels': dict(model=_model),
    **{
        _name: _row | dict(model=_row.get('model', {}) | _model)
        for _name, _row in _base_.rows.to_dict().items()
        if _name != 'CIoU loss besides'
    },
}
