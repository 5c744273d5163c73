# The loss that won studies/bccd_losses.py, for studies/bccd_prior.py and bccd_modern.py.
_base_ = './bccd.py'
model = dict(
    bbox_head=dict(
        loss_obj=None,
        loss_cls=dict(
            _delete_=True,
            type='BalancedFocalLoss',
            use_sigmoid=True,
            gamma=2.0,
            # tools/imbalance_report.py configs/study/bccd.py
            alpha=[0.09, 0.31, 0.31],
            loss_weight=4.0,
        ),
    )
)
