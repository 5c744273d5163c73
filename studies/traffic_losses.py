# The most telling losses on the embedded street scenes, whose rarest class is 4 % of the objects.
config = '../configs/study/traffic.py'
seeds = [0, 1, 2]
baseline = 'cross entropy'
_joint = dict(_delete_=True, type='BalancedFocalLoss', use_sigmoid=True, gamma=2.0, alpha=0.25)


def _head(**changes):
    return dict(model=dict(bbox_head=changes))


rows = {
    'cross entropy': _head(loss_obj=dict(gamma=0.0, alpha=None, loss_weight=1.0)),
    'squared (Darknet master)': _head(
        loss_obj=dict(_delete_=True, type='MSELoss', loss_weight=0.5),
        loss_xy=dict(_delete_=True, type='MSELoss', loss_weight=0.5),
        object_scale=5.0,
        rescore=True,
        normalizer='batch',
        prior_prob=None,
        coord_prefill=12800,
    ),
    'focal': _head(),
    'joint focal': _head(loss_obj=None, loss_cls=dict(**_joint, loss_weight=4.0)),
    # tools/imbalance_report.py configs/study/traffic.py
    'joint focal, alpha by class': _head(
        loss_obj=None,
        loss_cls=dict(**{**_joint, 'alpha': [0.19, 0.22, 0.26, 0.32]}, loss_weight=4.0),
    ),
    'joint equalized': _head(
        loss_obj=None,
        loss_cls=dict(
            _delete_=True, type='EqualizedFocalLoss', num_classes=4, alpha=0.25, loss_weight=4.0
        ),
    ),
}
