"""Thresholds, confusions and kinds of error worked out by hand, and by plain loops."""

import importlib.util
from pathlib import Path

import mmdet
import numpy as np
import pytest

from mmdet_yolo2fl.analysis.confusion import confusion_matrix
from mmdet_yolo2fl.analysis.curves import best_thresholds, class_curves, thinned
from mmdet_yolo2fl.analysis.errors import KINDS, error_kinds, error_table
from mmdet_yolo2fl.analysis.worst_images import image_table, worst_images
from tests.analysis.made import MadeDataset, analyzed, found, random_scenes

CAT, DOG = 0, 1
ZERO = np.zeros(2)
# On a row, 20 apart, so that they do not meet.
A, B, C, D = ((20.0 * i, 0.0, 20.0 * i + 10, 10.0) for i in range(4))


def half(box, share):
    """The lower part of a box, by which it overlaps the whole with an IoU of ``share``."""
    return (*box[:3], 10 * share)


@pytest.fixture
def scene():
    """One image of each kind of error."""
    return analyzed(
        [[(CAT, A), (DOG, B), (CAT, C), (CAT, D, True)], [], [(DOG, A)]],
        [
            found(
                (CAT, 0.9, A),  # right
                (CAT, 0.8, half(A, 0.9)),  # duplicate
                (CAT, 0.7, B),  # a dog
                (CAT, 0.6, half(C, 0.3)),  # badly placed
                (CAT, 0.5, half(B, 0.3)),  # a dog, and badly placed
                (CAT, 0.45, D),  # on a crowd
                (CAT, 0.4, (0, 50, 10, 60)),  # nothing there
                (DOG, 0.1, B),  # right
            ),
            found((DOG, 0.3, A)),  # nothing there
            found(),
        ],
    ).matches


def test_kinds_of_error(scene):
    kinds = error_kinds(scene, ZERO).tolist()
    assert kinds == [-1, 0, 1, 2, 3, -1, 4, -1, 4]
    table = {key: counts.tolist() for key, counts in error_table(scene, ZERO).items()}
    assert table == dict(
        duplicate=[1, 0],
        **{'class': [1, 0]},
        localization=[1, 0],
        both=[1, 0],
        background=[1, 1],
        found=[1, 1],
        missed=[1, 1],
    )


@pytest.mark.parametrize('share', [0.6, 0.7, 0.8, 0.9])
def test_a_duplicate_that_just_reaches_the_threshold(share):
    boxes = found((CAT, 0.9, half(A, share)), (CAT, 0.8, half(A, share)))
    matches = analyzed([[(CAT, A)]], [boxes], iou_thr=share).matches
    kinds = error_kinds(matches, np.zeros(len(matches.classes)))
    assert kinds.tolist() == [-1, list(KINDS).index('duplicate')]


def test_thresholds_hide_what_lies_below(scene):
    table = error_table(scene, np.array([0.55, 0.2]))
    assert [table[kind][CAT] for kind in KINDS] == [1, 1, 1, 0, 0]
    assert table['found'].tolist() == [1, 0] and table['missed'].tolist() == [1, 2]


def test_confusion_matrix(scene):
    # cat: twice on A, C missed; dog: B as a cat and as a dog, the second A missed; background:
    # badly placed two, one of nothing; a dog of nothing
    assert confusion_matrix(scene, ZERO).tolist() == [[2, 0, 1], [1, 1, 1], [3, 1, 0]]
    assert confusion_matrix(scene, np.array([0.55, 0.2])).tolist() == (
        [[2, 0, 1], [1, 0, 2], [1, 1, 0]]
    )


@pytest.mark.parametrize('seed', range(3))
def test_confusion_matrix_equals_mmdetections(seed):
    script = Path(mmdet.__file__).parent / '.mim/tools/analysis_tools/confusion_matrix.py'
    if not script.is_file():
        pytest.skip('this MMDetection came without its tools')
    spec = importlib.util.spec_from_file_location('confusion_matrix', script)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    images, predictions = random_scenes(seed)
    images = [[box[:2] for box in image] for image in images]  # it knows no ignored ones
    classes = ('a', 'b', 'c')
    expected = module.calculate_confusion_matrix(
        MadeDataset(images, classes), predictions, score_thr=0.4, tp_iou_thr=0.5
    )
    matches = analyzed(images, predictions, classes).matches
    matrix = confusion_matrix(matches, np.full(3, np.float32(0.4)))
    assert matrix.tolist() == expected.tolist() and np.trace(matrix) > 3


@pytest.mark.parametrize('seed', range(3))
def test_kinds_equal_a_plain_loop(seed):
    matches = analyzed(*random_scenes(seed), ('a', 'b', 'c')).matches
    kinds = error_kinds(matches, np.full(3, 0.2))
    for i, box in enumerate(matches.boxes):
        if matches.ignored[i] or matches.scores[i] < 0.2 or matches.truth[i] >= 0:
            assert kinds[i] == -1
            continue
        own, other = [0.0], [0.0]
        for j, truth in enumerate(matches.truth_boxes):
            if matches.truth_images[j] != matches.images[i] or matches.truth_ignored[j]:
                continue
            size = np.minimum(box[2:], truth[2:]) - np.maximum(box[:2], truth[:2])
            inside = size.clip(min=0).prod()
            union = (box[2:] - box[:2]).prod() + (truth[2:] - truth[:2]).prod() - inside
            kind = own if matches.truth_labels[j] == matches.labels[i] else other
            kind.append(inside / union)
        expected = (
            0 if max(own) >= 0.5 else 1 if max(other) >= 0.5
            else 2 if max(own) >= 0.1 else 3 if max(other) >= 0.1 else 4
        )  # fmt: skip
        assert kinds[i] == expected
    assert len(set(kinds.tolist())) >= 5


def test_curve_and_best_threshold():
    """Right, false, right and right (the same score), false; four truths, one of them missed."""
    matches = analyzed(
        [[(CAT, A), (CAT, B), (CAT, C), (CAT, D)]],
        [
            found(
                (CAT, 0.875, A),
                (CAT, 0.75, (0, 50, 10, 60)),
                (CAT, 0.5, B),
                (CAT, 0.5, C),
                (CAT, 0.25, (30, 50, 40, 60)),
            )
        ],
    ).matches
    curve, none = class_curves(matches)
    assert curve.thresholds.tolist() == [0.875, 0.75, 0.5, 0.25]
    assert curve.precision == pytest.approx([1, 1 / 2, 3 / 4, 3 / 5])
    assert curve.recall == pytest.approx([1 / 4, 1 / 4, 3 / 4, 3 / 4])
    assert curve.f1 == pytest.approx([2 / 5, 2 / 6, 6 / 8, 6 / 9])
    assert curve.best == 2 and none.best is None and not len(none.f1)
    assert best_thresholds([curve, none]).tolist() == [0.5, 0.5]


def test_curves_without_truths_or_hits():
    matches = analyzed([[(CAT, A)]], [found((CAT, 0.5, B), (DOG, 0.7, A))]).matches
    cat, dog = class_curves(matches)
    assert cat.f1.tolist() == [0] and cat.best is None
    assert np.isnan(dog.recall).all() and dog.precision.tolist() == [0] and dog.best is None


def test_thinned_curve_keeps_ends_and_best():
    matches = analyzed(
        [[(CAT, (20.0 * i, 0, 20.0 * i + 10, 10)) for i in range(200)]],
        [found(*((CAT, 1 - i / 400, (20.0 * i, 0, 20.0 * i + 10, 10)) for i in range(300)))],
    ).matches
    curve = class_curves(matches)[0]
    thin = thinned(curve, 50)
    assert 40 <= len(thin.f1) <= 50 < len(curve.f1)
    assert thin.thresholds[[0, -1]].tolist() == curve.thresholds[[0, -1]].tolist()
    assert thin.f1[thin.best] == curve.f1[curve.best] == 1
    assert thinned(thin, 50) is thin


def test_counts_by_image(scene):
    table = {key: values.tolist() for key, values in image_table(scene, ZERO).items()}
    assert table.pop('iou') == pytest.approx([1, np.nan, np.nan], nan_ok=True)
    assert table == dict(truths=[3, 0, 1], found=[2, 0, 0], missed=[1, 0, 1], false=[5, 1, 0])


def test_worst_images_in_turns():
    table = dict(
        missed=np.array([0, 3, 2, 0, 0]),
        false=np.array([1, 4, 0, 0, 0]),
        found=np.array([1, 1, 1, 1, 0]),
        iou=np.array([0.9, 0.8, 0.7, 1.0, np.nan]),
    )
    # Image 1 is the worst of two rankings; 3 and 4 have no error.
    assert worst_images(table, 12) == [(1, 'missed'), (0, 'false'), (2, 'iou')]
    assert worst_images(table, 1) == [(1, 'missed')]
    assert worst_images(table, 0) == []
