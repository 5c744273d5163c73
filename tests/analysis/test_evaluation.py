"""AP against MMDetection's own metrics, and by hand."""

import json

import numpy as np
import pytest
import torch
from mmdet.datasets import CocoDataset
from mmdet.evaluation import CocoMetric, VOCMetric

from mmdet_yolo2fl.analysis.evaluation import evaluate, mean
from mmdet_yolo2fl.analysis.predictions import flatten
from mmdet_yolo2fl.analysis.truths import load_truths
from tests.analysis.made import MadeDataset, analyzed, found, random_scenes
from tests.tools.conftest import write_data

CLASSES = ('cat', 'dog', 'cow')
BOX = (10, 10, 50, 50)


def metric_of(metric, dataset, predictions):
    """What a metric of MMDetection says of them."""
    metric.dataset_meta = dict(dataset.metainfo)
    samples = []
    for index, entry in enumerate(predictions):
        info = dataset.get_data_info(index)

        def truths(ignored, info=info):
            kept = [i for i in info['instances'] if i['ignore_flag'] == ignored]
            return dict(
                bboxes=torch.tensor([i['bbox'] for i in kept], dtype=torch.float32).reshape(-1, 4),
                labels=torch.tensor([i['bbox_label'] for i in kept], dtype=torch.long),
            )

        samples.append(
            dict(
                img_id=info['img_id'],
                ori_shape=(info['height'], info['width']),
                instances=info['instances'],
                gt_instances=truths(0),
                ignored_instances=truths(1),
                **entry,
            )
        )
    metric.process({}, samples)
    return metric.evaluate(len(samples))


@pytest.mark.parametrize('seed', range(3))
def test_equals_cocometric(seed):
    images, predictions = random_scenes(seed)
    result = analyzed(images, predictions, CLASSES)
    expected = metric_of(CocoMetric(classwise=True), MadeDataset(images, CLASSES), predictions)
    assert round(mean(result.ap), 3) == expected['coco/bbox_mAP'] > 0.01
    assert round(mean(result.ap50), 3) == expected['coco/bbox_mAP_50']
    for name, ap in zip(CLASSES, result.ap):
        assert round(ap, 3) == expected[f'coco/{name}_precision']
    assert list(result.sizes) == ['small', 'medium', 'large']
    for name, row in result.sizes.items():
        # -1 is its word for a size without truths.
        ap = mean(row['ap']) if row['truths'].any() else -1
        assert round(ap, 3) == expected[f'coco/bbox_mAP_{name[0]}']


@pytest.mark.parametrize('most', [1, 3])
def test_as_many_boxes_as_cocometric_counts(most):
    images, predictions = random_scenes(3)
    result = analyzed(images, predictions, CLASSES, max_dets=(1, 1, most))
    metric = CocoMetric(proposal_nums=(1, 1, most), classwise=True)
    expected = metric_of(metric, MadeDataset(images, CLASSES), predictions)
    for name, ap in zip(CLASSES, result.ap):
        assert round(ap, 3) == expected[f'coco/{name}_precision']
    assert mean(result.ap) < mean(analyzed(images, predictions, CLASSES).ap)


@pytest.mark.parametrize('mode', ['area', '11points'])
def test_equals_vocmetric(mode):
    images, predictions = random_scenes(7)
    result = analyzed(images, predictions, CLASSES, voc_mode=mode)
    expected = metric_of(
        VOCMetric(iou_thrs=[0.5], eval_mode=mode), MadeDataset(images, CLASSES), predictions
    )
    assert mean(result.voc_ap50) == pytest.approx(expected['pascal_voc/mAP'], abs=1e-6)


def test_takes_the_annotation_file_of_the_metric(tmp_path, capsys):
    """With the areas of masks."""
    data_root = write_data(tmp_path / 'data')
    content = json.loads((data_root / 'valid.json').read_text())
    content['annotations'][0]['area'] = 1100  # medium
    (data_root / 'valid.json').write_text(json.dumps(content))
    dataset = CocoDataset(
        data_root=str(data_root),
        ann_file='valid.json',
        data_prefix=dict(img=''),
        test_mode=True,
        metainfo=dict(classes=('red', 'blue')),
    )
    config = dict(type=CocoMetric, ann_file=str(data_root / 'valid.json'))
    truths = load_truths(dataset, [config])
    assert truths.classes == ['red', 'blue'] and truths.areas.tolist() == [1100, 900, 900, 900]
    boxes = [(1, 0.9, (22, 11, 52, 41)), (0, 0.8, (22, 10, 52, 36)), (1, 0.3, (0, 0, 9, 9))]
    predictions = [found(*boxes), found(*boxes), found(), found(boxes[2])]
    result = evaluate(truths, flatten(predictions, truths.ids, 2))
    metric = CocoMetric(ann_file=config['ann_file'], classwise=True)
    with_ids = [p | dict(img_id=i) for p, i in zip(predictions, truths.ids)]
    metric.dataset_meta = dataset.metainfo
    metric.process({}, [p | dict(ori_shape=(60, 90)) for p in with_ids])
    expected = metric.evaluate(4)
    assert round(mean(result.ap), 3) == expected['coco/bbox_mAP'] > 0.1
    assert round(mean(result.ap50), 3) == expected['coco/bbox_mAP_50']
    for name in ('small', 'medium'):
        ap = mean(result.sizes[name]['ap'])
        assert round(ap, 3) == expected[f'coco/bbox_mAP_{name[0]}'] > 0
    assert 'are not in the data set' not in capsys.readouterr().out
    # A part of them, of which CocoMetric would take all.
    part = load_truths(dataset.get_subset(range(3)), [config])
    assert len(part.ids) == 3
    assert '1 images of ' in (said := capsys.readouterr().out) and 'do not count here' in said
    with pytest.raises(ValueError, match='has not the classes'):
        dataset._metainfo['classes'] = ('red', 'green')
        load_truths(dataset, [config])


def test_categories_whose_ids_do_not_ascend(tmp_path):
    """COCOeval arranges the classes by their ids."""
    data_root = write_data(tmp_path / 'data')
    content = json.loads((data_root / 'valid.json').read_text())
    numbers = {one['id']: 9 - one['id'] for one in content['categories']}
    found_classes = {}
    for name, ids in (('ascending', {}), ('descending', numbers)):
        copy = json.loads(json.dumps(content))
        for one in copy['categories']:
            one['id'] = ids.get(one['id'], one['id'])
        for one in copy['annotations']:
            one['category_id'] = ids.get(one['category_id'], one['category_id'])
        file = data_root / f'{name}.json'
        file.write_text(json.dumps(copy))
        dataset = CocoDataset(
            data_root=str(data_root),
            ann_file=file.name,
            data_prefix=dict(img=''),
            test_mode=True,
            metainfo=dict(classes=('red', 'blue')),
        )
        truths = load_truths(dataset, [dict(type='mmdet.CocoMetric', ann_file=str(file))])
        # All red ones, exactly.
        predictions = [found() for _ in truths.ids]
        for image, label, box in zip(truths.images, truths.labels, truths.boxes):
            if label == 0:
                predictions[image] = found((0, 0.9, tuple(box)))
        result = evaluate(truths, flatten(predictions, truths.ids, 2))
        found_classes[name] = result.ap.tolist(), result.ap50.tolist(), result.voc_ap50.tolist()
        small = {size: row['ap'].tolist() for size, row in result.sizes.items()}
        assert small['small'] == [1, 0]
    assert found_classes['descending'] == found_classes['ascending'] == ([1, 0],) * 3


def test_ids_of_annotations_that_pycocotools_loses(tmp_path):
    """It takes what matches the annotation 0 for unmatched, and notes ids in float64."""
    data_root, results = write_data(tmp_path / 'data'), []
    for first, kind in ((1, int), (0, int), (1, str), (2**60, int)):
        content = json.loads((data_root / 'valid.json').read_text())
        for number, entry in enumerate(content['annotations'], first):
            entry['id'] = kind(number)
        (data_root / f'{first}.json').write_text(json.dumps(content))
        dataset = CocoDataset(
            data_root=str(data_root),
            ann_file=f'{first}.json',
            data_prefix=dict(img=''),
            test_mode=True,
            metainfo=dict(classes=('red', 'blue')),
        )
        config = dict(type='CocoMetric', ann_file=str(data_root / f'{first}.json'))
        truths = load_truths(dataset, [config])
        box = truths.boxes[0]
        label = int(truths.labels[0])
        mine = [(label, 0.9, box), (label, 0.8, (0, 0, 9, 9))]
        predictions = [found(*mine), *[found((0, 0.3, (0, 0, 5, 5))) for _ in truths.ids[1:]]]
        result = evaluate(truths, flatten(predictions, truths.ids, 2))
        results.append((result.matches.truth.tolist(), result.ap50.tolist()))
    assert all(one == results[0] for one in results)
    assert results[0][0][0] == 0 and set(results[0][0][1:]) == {-1}


def test_thirds_where_all_boxes_are_of_one_size():
    sides = (10, 11, 14, 15, 19, 20)  # all small
    images = [[(0, (0, 0, side, side))] for side in sides]
    predictions = [found((0, 0.9, (0, 0, side, side))) if side > 14 else found() for side in sides]
    sizes = analyzed(images, predictions).sizes
    assert sizes['small']['truths'].tolist() == [6, 0]
    thirds = [sizes[name] for name in ('smallest third', 'middle third', 'largest third')]
    assert [row['truths'][0] for row in thirds] == [2, 2, 2]
    # 51 of the 101 recalls up to a half
    assert [row['ap'][0] for row in thirds] == pytest.approx([0, 51 / 101, 1])


def test_no_thirds_of_equal_boxes():
    assert set(analyzed([[(0, BOX)]] * 4, [found()] * 4).sizes) == {'small', 'medium', 'large'}


def test_nothing_to_find_nothing_found():
    empty = analyzed([[], []], [found(), found()])
    assert np.isnan(empty.ap).all() and np.isnan(mean(empty.ap50))
    assert np.isnan(empty.voc_ap50).all()
    none_found = analyzed([[(0, BOX)], []], [found(), found()])
    assert none_found.ap[0] == 0 and np.isnan(none_found.ap[1])
    only_false = analyzed([[], []], [found((0, 0.5, BOX)), found()])
    assert np.isnan(only_false.ap).all()
    assert not only_false.matches.ignored.any() and (only_false.matches.truth == -1).all()


def test_the_threshold_of_the_iou():
    images = [[(0, (0, 0, 10, 10))]]
    predictions = [found((0, 0.9, (0, 0, 10, 6)))]  # IoU 0.6
    for iou_thr, truth in ((0.5, 0), (0.6, 0), (0.65, -1), (0.35, 0)):
        matches = analyzed(images, predictions, iou_thr=iou_thr).matches
        assert matches.truth.tolist() == [truth]
    assert analyzed(images, predictions, iou_thr=0.9).ap50[0] == pytest.approx(1)
    assert matches.iou() == pytest.approx([0.6])


def test_a_data_set_without_images_or_classes_is_refused():
    with pytest.raises(ValueError, match='0 images'):
        load_truths(MadeDataset([]))
    with pytest.raises(ValueError, match='0 classes'):
        load_truths(MadeDataset([[]], ()))
