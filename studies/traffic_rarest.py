# The rarest class of the street scenes, cyclists: the plain loss against the one candidate that was
# chosen on `val` (studies/traffic_losses.py), once, on scenes and with seeds that no choice has
# seen; and the loss and the start of the shipped configs.
config = '../configs/study/traffic.py'
seeds = [10, 11, 12, 13, 14]
baseline = 'cross entropy'
_unseen = dict(dataset=dict(split='test', num_images=1000))


def _row(**changes):
    # A study reports the metrics of the validation loop.
    return changes | dict(val_dataloader=_unseen, test_dataloader=_unseen)


_cross_entropy = dict(loss_obj=dict(gamma=0.0, alpha=None, loss_weight=1.0))
_neither = dict(prior_prob=None, normalizer='batch')
rows = {
    'cross entropy': _row(model=dict(bbox_head=_cross_entropy)),
    'cross entropy, neither': _row(model=dict(bbox_head=_cross_entropy | _neither)),
    'focal, neither': _row(model=dict(bbox_head=_neither)),
    'joint focal, alpha by class, neither': _row(
        config='../configs/study/traffic_joint.py',
        model=dict(bbox_head=_neither),
    ),
}
