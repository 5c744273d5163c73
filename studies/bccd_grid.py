# alpha x gamma of the objectness, one seed each, three for the best three. The loss weight keeps
# the loss of a prediction at the prior (0.01) that of cross entropy: 1 / (alpha (1 - 0.01)^gamma),
# so that the grid varies the shape of the loss and not the weight of the boxes beside it.
config = '../configs/study/bccd.py'
seeds = [0]
# The baseline, and the best three with seed 0.
_three_seeds = [(None, 0.0), (0.5, 0.0), (0.5, 2.0), (None, 2.0)]
baseline = 'alpha none, gamma 0'


def _row(alpha, gamma):
    weight = round(1 / ((alpha or 1.0) * 0.99**gamma), 3)
    loss = dict(gamma=gamma, alpha=alpha, loss_weight=weight)
    seeds = [0, 1, 2] if (alpha, gamma) in _three_seeds else [0]
    return dict(seeds=seeds, model=dict(bbox_head=dict(loss_obj=loss)))


rows = {
    f'alpha {"none" if alpha is None else alpha}, gamma {gamma:g}': _row(alpha, gamma)
    for alpha in (None, 0.25, 0.5, 0.75)
    for gamma in (0.0, 0.5, 1.0, 2.0, 3.0)
}
