# Is it the loss or the start? Three losses, each with the prior of 0.01 and the division by the
# positives of configs/study/bccd.py, without the prior, and with neither (as Darknet does).
config = '../configs/study/bccd.py'
seeds = [0, 1, 2]
baseline = 'cross entropy'


def _head(**changes):
    return dict(model=dict(bbox_head=changes))


_cross_entropy = dict(loss_obj=dict(gamma=0.0, alpha=None, loss_weight=1.0))
_losses = {
    'cross entropy': (config, _cross_entropy),
    'focal': (config, dict()),
    'joint focal, alpha by class': ('../configs/study/bccd_joint.py', dict()),
}
_starts = {
    '': dict(),
    ', no prior': dict(prior_prob=None),
    ', neither': dict(prior_prob=None, normalizer='batch'),
}
rows = {
    loss + start: dict(config=file, **_head(**changes, **more))
    for loss, (file, changes) in _losses.items()
    for start, more in _starts.items()
}
# With neither the gradients are so large that clip_grad shortens the first steps: is it that?
for _loss in ('cross entropy', 'focal'):
    rows[f'{_loss}, neither, not clipped'] = dict(
        rows[f'{_loss}, neither'], optim_wrapper=dict(clip_grad=None)
    )
