import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mmdet.structures.bbox import bbox_overlaps

from mmdet_yolo2fl.models import YOLOV2AnchorGenerator, YOLOV2Assigner
from mmdet_yolo2fl.models.task_modules.yolov2_assigner import pairwise_overlaps

from . import oracle

ANCHORS = ((1.0, 1.0), (2.0, 3.0), (3.0, 2.0))


def run(raw, truths, ignored=None, anchors=ANCHORS, **kwargs):
    """Assign ``raw`` (B, H, W, A, 4) by the package; boxes decoded by the oracle."""
    batch, height, width = raw.shape[:3]
    boxes = [
        [
            [
                [
                    oracle.decode(raw[b, j, i, a].tolist(), i, j, anchors[a])
                    for a in range(len(anchors))
                ]
                for i in range(width)
            ]
            for j in range(height)
        ]
        for b in range(batch)
    ]
    most = max([len(t) for t in truths] + [1])
    gt = torch.full((batch, most, 4), float('nan'), dtype=torch.float64)
    mask = torch.zeros(batch, most, dtype=torch.bool)
    for b, image in enumerate(truths):
        for m, truth in enumerate(image):
            gt[b, m], mask[b, m] = torch.tensor(truth, dtype=torch.float64), True
    extra = ()
    if ignored is not None:
        extra = (
            torch.tensor(ignored, dtype=torch.float64),
            torch.ones(batch, len(ignored[0])).bool(),
        )
    result = YOLOV2Assigner(**kwargs).assign(
        torch.tensor(boxes, dtype=torch.float64).flatten(1, 3),
        torch.tensor(anchors, dtype=torch.float64) * 32,
        (height, width),
        32,
        gt,
        mask,
        *extra,
    )
    return boxes, result


def compare(boxes, truths, result, size, ignored=None, **kwargs):
    for b, image in enumerate(truths):
        owner, kind = oracle.assign(
            boxes[b], image, ANCHORS, size, ignored=ignored[b] if ignored else (), **kwargs
        )
        for (j, i, a), expected in kind.items():
            slot = (j * size[1] + i) * len(ANCHORS) + a
            got = (
                'pos'
                if result.positive[b, slot]
                else 'neg'
                if result.negative[b, slot]
                else 'ignore'
            )
            assert got == expected, (b, j, i, a)
            if expected == 'pos':
                assert result.truth[b, slot] == owner[j, i, a]
                assert result.matched[b, owner[j, i, a]]
                assert result.slot[b, owner[j, i, a]] == slot
                assert result.iou[b, owner[j, i, a]].item() == pytest.approx(
                    oracle.iou(boxes[b][j][i][a], image[owner[j, i, a]]), abs=1e-9
                )
        assert result.matched[b].sum() == len(owner)


@pytest.mark.parametrize('bias_match', [True, False])
@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**31), counts=st.lists(st.integers(0, 6), min_size=1, max_size=3))
def test_equals_plain_loops(bias_match, seed, counts):
    g = torch.Generator().manual_seed(seed)
    size = (3, 5)
    raw = torch.randn(len(counts), *size, 3, 4, generator=g, dtype=torch.float64) * 0.7
    truths = []
    for n in counts:
        centre = torch.rand(n, 2, generator=g, dtype=torch.float64) * torch.tensor([160.0, 96.0])
        half = torch.rand(n, 2, generator=g, dtype=torch.float64) * 50 + 3
        truths.append(torch.cat([centre - half, centre + half], 1).tolist())
    boxes, result = run(raw, truths, bias_match=bias_match)
    compare(boxes, truths, result, size, bias_match=bias_match)
    assert result.num_skipped == 0


@pytest.mark.parametrize('count, threshold', [(2, 0.4), (3, 0.2), (5, 0.0)])
@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**31), number=st.integers(1, 6))
def test_further_anchors_equal_plain_loops(count, threshold, seed, number):
    g = torch.Generator().manual_seed(seed)
    raw = torch.randn(1, 2, 2, 3, 4, generator=g, dtype=torch.float64) * 0.5
    centre = torch.rand(number, 2, generator=g, dtype=torch.float64) * 64
    half = torch.rand(number, 2, generator=g, dtype=torch.float64) * 50 + 3
    truths = torch.cat([centre - half, centre + half], 1).tolist()
    _, result = run(raw, [truths], anchors_per_truth=count, anchor_iou_thr=threshold)
    # Slot by slot, from the worst choice that fits to the best: the later assignment stays.
    owner = {}
    for rank in reversed(range(min(count, 3))):
        for m, (x1, y1, x2, y2) in enumerate(truths):
            cell = int((y1 + y2) / 64) * 2 + int((x1 + x2) / 64)
            shapes = [(0, 0, 32 * w, 32 * h) for w, h in ANCHORS]
            ious = [oracle.iou((0, 0, x2 - x1, y2 - y1), shape) for shape in shapes]
            order = sorted(range(3), key=lambda a: -ious[a])
            if rank == 0 or ious[order[rank]] > threshold:
                owner[cell * 3 + order[rank]] = m
    assert result.positive[0].nonzero()[:, 0].tolist() == sorted(owner)
    assert result.matched.sum() == len(owner)
    for slot, m in owner.items():
        assert result.truth[0, slot] % number == m
    for position in result.matched[0].nonzero()[:, 0].tolist():
        assert owner[result.slot[0, position].item()] == position % number
    assert result.num_skipped == 0


def test_the_later_truth_owns_the_slot():
    first, last = (10.0, 10.0, 42.0, 42.0), (11.0, 11.0, 43.0, 43.0)
    _, result = run(torch.zeros(1, 2, 2, 3, 4), [[first, (40.0, 40.0, 60.0, 60.0), last]])
    assert result.slot[0, 0] == result.slot[0, 2] != result.slot[0, 1]
    assert result.matched.tolist() == [[False, True, True]]
    assert result.truth[0, result.slot[0, 2]] == 2


def test_ties_between_anchors_go_to_the_first():
    # A square of 64: both (64, 96) and (96, 64) give 2/3; the square anchor of 32 gives 1/4.
    _, result = run(torch.zeros(1, 2, 2, 3, 4), [[(0.0, 0.0, 64.0, 64.0)]])
    assert result.slot[0, 0] % 3 == 1
    # With both of them responsible the last copy is the best choice, the first anchor again.
    _, result = run(torch.zeros(1, 2, 2, 3, 4), [[(0.0, 0.0, 64.0, 64.0)]], anchors_per_truth=2)
    assert (result.slot[0] % 3).tolist() == [2, 1] and result.matched.all()


def test_the_threshold_is_strict():
    # tw = th = 0 and tx = ty = 0: the box of the first slot is (0, 0, 32, 32), half of a truth
    # whose centre falls into the cell below.
    raw, truth = torch.zeros(1, 2, 2, 3, 4), [[(0.0, 0.0, 32.0, 64.0)]]
    for threshold, negative in ((0.5, True), (0.49, False)):
        _, result = run(raw, truth, ignore_iou_thr=threshold)
        assert bool(result.negative[0, 0]) is negative
        assert not result.positive[0, 0]


def test_a_centre_on_the_far_border_falls_into_the_last_cell():
    _, result = run(torch.zeros(1, 2, 3, 3, 4), [[(86.0, 54.0, 106.0, 74.0)]])
    assert result.matched.all()
    assert result.slot[0, 0] // 3 == 5
    _, result = run(torch.zeros(1, 2, 3, 3, 4), [[(54.0, 54.0, 74.0, 74.0)]])
    assert result.slot[0, 0] // 3 == 5 and result.truth[0].tolist() == [0] * 18


@pytest.mark.parametrize(
    'bad',
    [
        (10.0, 10.0, 10.0, 20.0),
        (20.0, 10.0, 10.0, 20.0),
        (200.0, 200.0, 220.0, 220.0),
        (-50.0, 0.0, -30.0, 10.0),
        (float('nan'), 0.0, 10.0, 10.0),
        (0.0, 0.0, float('inf'), 10.0),
        (-1e9, -1e9, 1e9, 1e9),
    ],
)
def test_boxes_that_cannot_be_learned_are_counted_and_left_out(bad):
    good = (5.0, 5.0, 35.0, 35.0)
    raw = torch.zeros(1, 2, 2, 3, 4)
    _, result = run(raw, [[bad, good, bad]])
    _, alone = run(raw, [[good]])
    assert result.num_skipped == 2
    assert result.matched.tolist() == [[False, True, False]]
    assert torch.equal(result.positive, alone.positive)
    assert torch.equal(result.negative, alone.negative)


def test_no_truths():
    _, result = run(torch.zeros(2, 2, 2, 3, 4), [[], []])
    assert not result.positive.any() and result.negative.all() and result.num_skipped == 0


def test_ignored_truths_make_neither_positives_nor_negatives():
    raw = torch.randn(1, 3, 5, 3, 4, generator=torch.Generator().manual_seed(1)).double() * 0.5
    truths, ignored = [[(10.0, 10.0, 60.0, 60.0)]], [[(60.0, 20.0, 160.0, 90.0)]]
    boxes, result = run(raw, truths, ignored)
    compare(boxes, truths, result, (3, 5), ignored)
    assert (~result.positive & ~result.negative).sum() > 3


def test_the_slot_responsible_for_an_ignored_truth_is_no_negative():
    # A prediction 20 times as wide and high as its anchor: next to nothing of it lies inside.
    raw = torch.zeros(1, 2, 2, 3, 4, dtype=torch.float64)
    raw[..., 2:] = 3
    inside, outside = (2.0, 2.0, 30.0, 30.0), (-90.0, 2.0, -60.0, 30.0)
    _, result = run(raw, [[]], [[inside, outside]])
    assert (~result.negative[0]).nonzero()[:, 0].tolist() == [0]
    assert not result.positive.any()


@pytest.mark.parametrize(
    'kwargs',
    [
        dict(ignore_iou_thr=1.5),
        dict(ignore_iof_thr=-0.1),
        dict(anchors_per_truth=0),
        dict(anchor_iou_thr=2.0),
    ],
)
def test_thresholds_out_of_range(kwargs):
    with pytest.raises(ValueError, match=next(iter(kwargs))):
        YOLOV2Assigner(**kwargs)


def test_anchor_generator_is_in_cells_and_in_grid_order():
    generator = YOLOV2AnchorGenerator([(1.5, 2.0), (3.0, 1.0)], stride=32)
    priors = generator.grid_priors([(2, 3)], device='cpu')[0]
    assert priors.shape == (2 * 3 * 2, 4)
    for j in range(2):
        for i in range(3):
            for a, (w, h) in enumerate(generator.anchors):
                x, y = 32 * (i + 0.5), 32 * (j + 0.5)
                expected = [x - 16 * w, y - 16 * h, x + 16 * w, y + 16 * h]
                assert priors[(j * 3 + i) * 2 + a].tolist() == expected


@pytest.mark.parametrize(
    'anchors, stride, message',
    [
        ([(116, 90), (156, 198)], 32, 'pixels'),
        ([(0, 1)], 32, 'positive'),
        ([(float('nan'), 1)], 32, 'positive'),
        ([(1, 2, 3)], 32, 'width, height'),
        ([], 32, 'at least one'),
        ([(1, 1)], 0, 'stride'),
    ],
)
def test_anchors_that_do_not_fit(anchors, stride, message):
    with pytest.raises(ValueError, match=message):
        YOLOV2AnchorGenerator(anchors, stride)


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 2**31), boxes=st.integers(1, 6), truths=st.integers(1, 5))
def test_overlaps_equal_mmdetections(seed, boxes, truths):
    g = torch.Generator().manual_seed(seed)
    a, b = (torch.rand(2, n, 4, generator=g) * 100 for n in (boxes, truths))
    a, b = (torch.cat([x[..., :2], x[..., :2] + x[..., 2:]], -1) for x in (a, b))
    iou, iof = pairwise_overlaps(a, b)
    torch.testing.assert_close(iou, bbox_overlaps(a, b))
    torch.testing.assert_close(iof, bbox_overlaps(a, b, mode='iof'))


def test_the_share_inside_an_ignored_truth_is_the_options():
    # 0.3 of the first slot's box (0, 0, 32, 32), in a region centred outside of the image.
    region = [[(0.0, -200.0, 32.0, 9.6)]]
    for threshold, negative in ((0.2, False), (0.4, True)):
        empty = torch.zeros(1, 2, 2, 3, 4)
        _, result = run(empty, [[]], region, ignore_iof_thr=threshold)
        assert bool(result.negative[0, 0]) is negative
