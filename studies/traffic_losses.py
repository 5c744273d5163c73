# The most telling losses on the embedded street scenes, whose rarest class is 4 % of the objects;
# the best of them also as Darknet starts and divides (studies/bccd_prior.py).
config = '../configs/study/traffic.py'
seeds = [0, 1, 2]
baseline = 'cross entropy'


def _head(**changes):
    return dict(model=dict(bbox_head=changes))


_cross_entropy = dict(loss_obj=dict(gamma=0.0, alpha=None, loss_weight=1.0))
_joint = dict(config='../configs/study/traffic_joint.py')
_neither = dict(prior_prob=None, normalizer='batch')
rows = {
    'cross entropy': _head(**_cross_entropy),
    'cross entropy, neither': _head(**_cross_entropy, **_neither),
    'focal': _head(),
    'focal, neither': _head(**_neither),
    'joint focal, alpha by class': _joint,
    'joint focal, alpha by class, neither': _joint | _head(**_neither),
    'squared (Darknet master)': _head(
        loss_obj=dict(_delete_=True, type='MSELoss', loss_weight=0.5),
        loss_xy=dict(_delete_=True, type='MSELoss', loss_weight=0.5),
        object_scale=5.0,
        rescore=True,
        coord_prefill=16,  # as in bccd_losses.py
        **_neither,
    ),
}
