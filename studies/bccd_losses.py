# Which loss, on blood cells: `train` to `val`. `python tools/study.py studies/bccd_losses.py`
config = '../configs/study/bccd.py'
seeds = [0, 1, 2]
baseline = 'cross entropy'

# All but Darknet's two start as configs/study/bccd.py: a prior of 0.01, divided by the positives.
_cross_entropy = dict(gamma=0.0, alpha=None, loss_weight=1.0)
# Objectness that descends as Darknet does: no prior, sums over the batch, targets are IoUs. Boxes
# are drawn to their anchors for 16 of the 6150 images: the share that 12800 have of VOC's
# 80200 batches of 64.
_darknet = dict(
    object_scale=5.0, rescore=True, normalizer='batch', prior_prob=None, coord_prefill=16
)
_joint = dict(_delete_=True, type='BalancedFocalLoss', use_sigmoid=True, gamma=2.0, alpha=0.25)


def _head(**changes):
    return dict(model=dict(bbox_head=changes))


rows = {
    'cross entropy': _head(loss_obj=_cross_entropy),
    'squared (Darknet master)': _head(
        loss_obj=dict(_delete_=True, type='MSELoss', loss_weight=0.5),
        loss_xy=dict(_delete_=True, type='MSELoss', loss_weight=0.5),
        **_darknet,
    ),
    'logistic (Darknet today)': _head(
        loss_obj=dict(_delete_=True, type='CrossEntropyLoss', use_sigmoid=True), **_darknet
    ),
    'balanced cross entropy': _head(loss_obj=dict(gamma=0.0, alpha=0.75, loss_weight=1.5)),
    'focal': _head(),
    'focal, class too': _head(
        loss_cls=dict(
            _delete_=True, type='BalancedFocalLoss', use_sigmoid=False, gamma=2.0, alpha=None
        )
    ),
    'joint focal': _head(loss_obj=None, loss_cls=_joint | dict(loss_weight=4.0)),
    # tools/imbalance_report.py configs/study/bccd.py
    'joint focal, alpha by class': _head(
        loss_obj=None, loss_cls=_joint | dict(alpha=[0.09, 0.31, 0.31], loss_weight=4.0)
    ),
    # The same weights, made for gamma 2: without focusing they favour the background.
    'joint cross entropy, alpha by class': _head(
        loss_obj=None, loss_cls=_joint | dict(alpha=[0.09, 0.31, 0.31], gamma=0.0, loss_weight=4.0)
    ),
    # As much for objects as for the background, with and without the same weights of the classes.
    'joint cross entropy': _head(
        loss_obj=None, loss_cls=_joint | dict(gamma=0.0, alpha=0.5, loss_weight=2.0)
    ),
    'joint cross entropy, classes weighted': _head(
        loss_obj=None, loss_cls=_joint | dict(gamma=0.0, alpha=[0.23, 0.57, 0.57], loss_weight=2.0)
    ),
    'automated': _head(
        loss_obj=dict(_delete_=True, type='AutomatedFocalLoss', alpha=0.25, loss_weight=4.0)
    ),
    # Its gamma nears 0 as positives are learned; an alpha of 0.25 then favours the background.
    'automated, alpha 0.5': _head(
        loss_obj=dict(_delete_=True, type='AutomatedFocalLoss', alpha=0.5, loss_weight=2.0)
    ),
    # The positives of every class have more gradient than its negatives, so that no class is
    # focused more than another, and the loss is that of `joint focal`.
    'joint equalized': _head(
        loss_obj=None,
        loss_cls=dict(
            _delete_=True, type='EqualizedFocalLoss', num_classes=3, alpha=0.25, loss_weight=4.0
        ),
    ),
    'focal, quality targets': _head(rescore=True),
}
