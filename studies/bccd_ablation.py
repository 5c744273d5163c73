# What carries the focal config: one thing taken away or added at a time (as YOLO9000, table 2).
config = '../configs/study/bccd.py'
seeds = [0, 1, 2]
baseline = 'focal config'


def _head(**changes):
    return dict(model=dict(bbox_head=changes))


def _sizes(*heights):
    """Training at other sizes, the widths 1.25 times and rounded down; the test is 256 high."""
    resize = dict(
        type='BatchSyncRandomResize', random_size_range=heights, size_divisor=32, interval=10
    )
    return dict(model=dict(data_preprocessor=dict(batch_augments=[resize])))


_voc = [(1.3221, 1.73145), (3.19275, 4.00944), (5.05587, 8.09892)]
_voc += [(9.47112, 4.84053), (11.2364, 10.0071)]
rows = {
    'focal config': dict(),
    'no prior': _head(prior_prob=None),
    'divided by the images': _head(normalizer='batch'),
    'neither': _head(prior_prob=None, normalizer='batch'),
    'rescore': _head(rescore=True),
    'multi-scale, larger than the test': _sizes(256, 384),
    'multi-scale, around the test': _sizes(192, 320),
    'anchors of VOC': _head(anchor_generator=dict(anchors=_voc)),
}
