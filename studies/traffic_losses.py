# The most telling losses on the embedded street scenes, whose rarest class is 4 % of the objects;
# the best of them also as Darknet starts and divides (studies/bccd_prior.py).
config = '../configs/study/traffic.py'
seeds = [0, 1, 2]
baseline = 'cross entropy'


def _head(**changes):
    return dict(model=dict(bbox_head=changes))


_cross_entropy = dict(loss_obj=dict(gamma=0.0, alpha=None, loss_weight=1.0))
_joint = dict(
    loss_obj=None,
    loss_cls=dict(
        _delete_=True,
        type='BalancedFocalLoss',
        use_sigmoid=True,
        gamma=2.0,
        # tools/imbalance_report.py configs/study/traffic.py
        alpha=[0.19, 0.22, 0.26, 0.32],
        loss_weight=4.0,
    ),
)
_neither = dict(prior_prob=None, normalizer='batch')
rows = {
    'cross entropy': _head(**_cross_entropy),
    'cross entropy, neither': _head(**_cross_entropy, **_neither),
    'focal': _head(),
    'focal, neither': _head(**_neither),
    'joint focal, alpha by class': _head(**_joint),
    'joint focal, alpha by class, neither': _head(**_joint, **_neither),
    'squared (Darknet master)': _head(
        loss_obj=dict(_delete_=True, type='MSELoss', loss_weight=0.5),
        loss_xy=dict(_delete_=True, type='MSELoss', loss_weight=0.5),
        object_scale=5.0,
        rescore=True,
        coord_prefill=12800,
        **_neither,
    ),
}
