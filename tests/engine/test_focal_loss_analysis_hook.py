import json
import math

import numpy as np
import pytest
import tiny_run
import torch
import torch.nn.functional as F
from mmdet.models.losses import CrossEntropyLoss, FocalLoss, MSELoss, QualityFocalLoss
from mmengine.logging import MMLogger
from tiny_run import InterruptedRunError, train
from torch import nn

from mmdet_yolo2fl import focal_analysis
from mmdet_yolo2fl.engine import FocalLossAnalysisHook
from mmdet_yolo2fl.focal_analysis import (
    COUNT,
    GRADIENT,
    LOSS,
    NEGATIVE,
    POSITIVE,
    History,
    bin_edges,
    load_histories,
    observe,
    save_histories,
)
from mmdet_yolo2fl.models import AutomatedFocalLoss, BalancedFocalLoss

EDGES = torch.tensor(bin_edges(0.9), dtype=torch.float32)


def look(loss, pred, target, weight=None, avg_factor=None, num_classes=3):
    table, by_class = observe(loss, pred, target, weight, avg_factor, EDGES, num_classes)
    return table.numpy(), by_class.numpy()


def batch(seed=0, rows=40, classes=3):
    torch.manual_seed(seed)
    pred = torch.randn(rows, classes) * 3
    labels = torch.randint(0, classes + 1, (rows,))
    weight = torch.rand(rows) * (torch.rand(rows) > 0.2)
    return pred, labels, weight


def elements_by_loop(pred, labels, weight, gamma, alpha, avg_factor):
    """From the equations: (positive, class, pt, loss, gradient) of every element."""
    rows = []
    for i, row in enumerate(pred.double().tolist()):
        for c, z in enumerate(row):
            if weight[i] == 0:
                continue
            positive = labels[i].item() == c
            pt = 1 / (1 + np.exp(-z if positive else z))
            at = (alpha if positive else 1 - alpha) * weight[i].item() / avg_factor
            loss = -at * (1 - pt) ** gamma * np.log(pt)
            gradient = at * (1 - pt) ** gamma * (1 - pt - gamma * pt * np.log(pt))
            rows.append((positive, c, pt, loss, gradient))
    return rows


@pytest.mark.parametrize('rows', [10, 400])
def test_a_sum_is_not_divided(rows):
    """Or the levels of YOLOv3, which sums, would weigh the same whatever their size."""
    pred, labels, weight = batch(rows=rows)
    loss = BalancedFocalLoss(reduction='sum')
    table, _ = look(loss, pred, labels, weight)
    assert table[LOSS].sum() == pytest.approx(loss(pred, labels, weight).item(), rel=1e-4)


@pytest.mark.parametrize('kind', [BalancedFocalLoss, FocalLoss])
@pytest.mark.parametrize('block', [1 << 22, 9])
def test_sums_equal_a_loop_over_the_elements(kind, block, monkeypatch):
    monkeypatch.setattr(focal_analysis, 'BLOCK', block)
    pred, labels, weight = batch()
    loss = kind(gamma=2.0, alpha=0.25, use_sigmoid=True)
    table, by_class = look(loss, pred, labels, weight, avg_factor=7.0)
    elements = elements_by_loop(pred, labels, weight, 2.0, 0.25, 7.0)
    for label in (NEGATIVE, POSITIVE):
        mine = [e for e in elements if e[0] == bool(label)]
        assert table[COUNT, label].sum() == len(mine)
        for column, what in ((3, LOSS), (4, GRADIENT)):
            assert table[what, label].sum() == pytest.approx(sum(e[column] for e in mine), rel=1e-4)
            for c in range(3):
                expected = sum(e[column] for e in mine if e[1] == c)
                assert by_class[what, label, c] == pytest.approx(expected, rel=1e-4)
    history = History(0.9, iters=[1], tables=[table])
    easy = sum(e[4] for e in elements if not e[0] and e[2] >= 0.9)
    assert history.shares()['easy_negative_gradient'][0] == pytest.approx(
        easy / sum(e[4] for e in elements), rel=1e-4
    )


def test_total_is_the_loss_itself():
    pred, labels, weight = batch(1)
    loss = BalancedFocalLoss(gamma=1.5, alpha=[0.2, 0.5, 0.7], class_weight=[1.0, 2.0, 5.0])
    table, _ = look(loss, pred, labels, weight, avg_factor=3.0)
    assert table[LOSS].sum() == pytest.approx(loss(pred, labels, weight, 3.0).item(), rel=1e-5)


def test_softmax_rows():
    pred, labels, weight = batch(2, classes=4)
    labels = labels.clamp(max=3)  # three classes, and the last column for the background
    table, by_class = look(CrossEntropyLoss(), pred, labels, weight, avg_factor=5.0)
    counted = weight > 0
    assert table[COUNT].sum() == counted.sum()
    assert table[COUNT, POSITIVE].sum() == (counted & (labels < 3)).sum()
    rows = F.cross_entropy(pred, labels, reduction='none') * weight / 5
    for c in range(3):
        assert by_class[LOSS, POSITIVE, c] == pytest.approx(
            rows[labels == c].sum().item(), rel=1e-5
        )
    assert by_class[:, NEGATIVE].sum() == 0
    assert table[LOSS].sum() == pytest.approx(rows.sum().item(), rel=1e-5)
    slope = (pred.softmax(-1) - F.one_hot(labels, 4)).abs().sum(-1) * weight / 5
    assert table[GRADIENT].sum() == pytest.approx(slope.sum().item(), rel=1e-5)


def test_squared_error_of_probabilities():
    logits, labels, _ = batch(3, classes=1)
    target = (labels == 0).float()[:, None]
    table, by_class = look(MSELoss(), logits.sigmoid(), target)
    p = logits.sigmoid()
    slope = (2 * (p - target) * p * (1 - p)).abs() / p.numel()
    assert table[GRADIENT].sum() == pytest.approx(slope.sum().item(), rel=1e-4)
    assert not by_class.any()


def test_squared_error_of_a_softmax():
    """As YOLOV2Head gives it to a squared loss of classes: the slope is that by the logits."""
    logits, labels, _ = batch(3)
    target = F.one_hot(labels.clamp(max=2), 3).float()
    table, by_class = look(MSELoss(), logits.softmax(-1), target)
    logits.requires_grad_()
    loss = MSELoss()(logits.softmax(-1), target)
    (slope,) = torch.autograd.grad(loss, logits)
    pt = torch.where(target > 0, logits.softmax(-1), 1 - logits.softmax(-1))
    assert table[GRADIENT].sum() == pytest.approx(slope.abs().sum().item(), rel=1e-3)
    for c in range(3):
        own = (slope.abs() * target)[:, c].sum().item()
        assert by_class[GRADIENT, POSITIVE, c] == pytest.approx(own, rel=1e-3)
    border = int((np.log(9) + 1e-6 >= EDGES).sum())
    easy = table[COUNT][:, border:].sum()
    assert easy == (pt >= 0.9).sum()
    assert table[LOSS].sum() == pytest.approx(loss.item(), rel=1e-4)


@pytest.mark.parametrize('kind', [BalancedFocalLoss, QualityFocalLoss])
def test_quality_targets_and_three_dimensions(kind):
    pred, labels, weight = batch(4)
    scores = torch.rand(40)
    loss = kind(use_sigmoid=True)
    flat, _ = look(loss, pred, (labels, scores), weight)
    assert flat[COUNT].sum() == 3 * (weight > 0).sum()
    assert np.isnan(flat[LOSS].sum()) == (kind is QualityFocalLoss)
    assert flat[GRADIENT].sum() > 0
    if kind is BalancedFocalLoss:
        target = F.one_hot(labels, 4)[:, :3] * scores[:, None]
        deep, _ = look(loss, pred.view(4, 10, 3), target.view(4, 10, 3), weight.view(4, 10, 1))
        np.testing.assert_allclose(flat, deep, rtol=1e-5)


def test_ignored_indices_do_not_count():
    pred, labels, _ = batch(8, classes=4)
    labels = labels.clamp(max=3)
    labels[::3] = -100
    kept = labels >= 0
    for loss, columns in ((CrossEntropyLoss(), 4), (CrossEntropyLoss(use_sigmoid=True), 3)):
        table, _ = look(loss, pred[:, :columns], labels, avg_factor=1.0)
        only, _ = look(loss, pred[kept][:, :columns], labels[kept], avg_factor=1.0)
        np.testing.assert_allclose(table, only, rtol=1e-5, atol=1e-12)


def test_a_rank_without_predictions_takes_part(tmp_path, monkeypatch):
    from mmdet_yolo2fl.engine.hooks import focal_loss_analysis_hook as module

    shapes = []
    monkeypatch.setattr(module, 'all_reduce', lambda x: shapes.append(tuple(x.shape)))
    monkeypatch.setattr(FocalLossAnalysisHook, '_look', lambda *args, **kwargs: None)
    train(tmp_path, hooks=(dict(type='FocalLossAnalysisHook', interval=6),))
    # Two losses, twice, two tables each: as on a rank that has seen something.
    assert shapes == [(3, 2, len(EDGES) + 1), (3, 2, 2)] * 4
    assert not (tmp_path / 'focal_loss').exists()


def test_what_the_ranks_have_seen_is_summed(tmp_path, monkeypatch):
    """Here of two that see the same."""
    from mmdet_yolo2fl.engine.hooks import focal_loss_analysis_hook as module

    for name, reduce in dict(one=lambda values: None, two=lambda values: values.mul_(2)).items():
        monkeypatch.setattr(module, 'all_reduce', reduce)
        train(tmp_path / name, hooks=(dict(type='FocalLossAnalysisHook', interval=6),))
    one, two = (
        load_histories(tmp_path / name / 'focal_loss/history.json') for name in ('one', 'two')
    )
    for name, history in one.items():
        np.testing.assert_allclose(two[name].tables, 2 * np.array(history.tables), rtol=1e-5)
        np.testing.assert_allclose(two[name].by_class, 2 * np.array(history.by_class), rtol=1e-5)


def test_losses_of_candidates_are_not_of_the_training():
    """PAA asks for them one by one, with `reduction_override='none'`, before its loss."""
    loss, hook = BalancedFocalLoss(), FocalLossAnalysisHook()
    model = nn.ModuleDict(dict(initial_loss_cls=loss))
    assert list(hook._choose(model)) == ['initial_loss_cls']
    hook.edges, hook.class_names, hook._looking = EDGES, ['a', 'b', 'c'], True
    loss.register_forward_pre_hook(hook._watch('x'), with_kwargs=True)
    pred, labels, weight = batch()
    loss(pred, labels, weight, avg_factor=1.0, reduction_override='none')
    loss(pred, labels, weight, 1.0, 'none')
    assert not hook._found
    loss(pred, labels, weight, avg_factor=7.0)
    np.testing.assert_allclose(hook._found['x'][0], look(loss, pred, labels, weight, 7.0)[0])


def test_a_loss_that_is_never_called_is_named(tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(FocalLossAnalysisHook, '_look', lambda *args, **kwargs: None)
    said = []
    monkeypatch.setattr(MMLogger, 'warning', lambda self, text, *_: said.append(text))
    train(tmp_path, hooks=(dict(type='FocalLossAnalysisHook', interval=6),))
    assert [text.split()[1] for text in said if 'was not called' in text] == (
        ['bbox_head.loss_obj', 'bbox_head.loss_cls']
    )


def test_adaptive_state_stands_still():
    pred, labels, _ = batch(5)
    loss = AutomatedFocalLoss().train()
    look(loss, pred, labels)
    assert loss.prob_correct.isnan() and loss.gamma == 2.0 and loss.training


def test_cumulative_curve():
    table = np.zeros((3, 2, len(EDGES) + 1))
    table[COUNT, NEGATIVE, [3, 50, 100]] = 1, 3, 6
    table[LOSS, NEGATIVE, [3, 50, 100]] = 8, 1, 1
    elements, loss = History(0.9, iters=[1], tables=[table]).cumulative(NEGATIVE)
    for x, y in ((0.6, 0.1), (0.9, 0.2), (1.0, 1.0)):
        assert loss[np.isclose(elements, x)].min() == pytest.approx(y)


def test_the_cumulative_curve_is_of_the_later_records():
    tables = np.zeros((4, 3, 2, len(EDGES) + 1))
    tables[:2, :, NEGATIVE, 3] = 1000
    tables[2:, COUNT, NEGATIVE, [3, 100]] = 1, 3
    tables[2:, LOSS, NEGATIVE, [3, 100]] = 8, 2
    history = History(0.9, iters=[1, 2, 3, 4], tables=list(tables))
    for since, share in ((0.5, 0.2), (0.75, 0.2), (0.0, 4 / 2020)):
        elements, loss = history.cumulative(NEGATIVE, since=since)
        later = tables[int(4 * since) :, COUNT, NEGATIVE].sum(0)
        x = later[100] / later.sum()
        assert loss[np.isclose(elements, x)].min() == pytest.approx(share)
    np.testing.assert_array_equal(loss, history.cumulative(NEGATIVE, 0.0)[1])
    np.testing.assert_array_equal(
        history.cumulative(NEGATIVE)[1], history.cumulative(NEGATIVE, 0.5)[1]
    )


def test_shares_of_classes_and_mean_probabilities_by_loops():
    records = [batch(seed) for seed in (10, 11)]
    loss = BalancedFocalLoss(alpha=[0.2, 0.5, 0.7])
    seen = [look(loss, *record, avg_factor=3.0) for record in records]
    history = History(0.9, list('abc'), [1, 2], [s[0] for s in seen], [s[1] for s in seen])
    shares = history.shares()
    for i, (pred, labels, weight) in enumerate(records):
        elements = elements_by_loop(pred, labels, weight, 2.0, 1.0, 3.0)
        for name, positive in (('negative', False), ('positive', True)):
            pt = [e[2] for e in elements if e[0] is positive]
            assert shares[f'pt_{name}'][i] == pytest.approx(np.mean(pt), abs=0.03)
        for what, column in ((LOSS, 3), (GRADIENT, 4)):
            by_class = [
                alpha * sum(e[column] for e in elements if e[0] and e[1] == c)
                for c, alpha in enumerate((0.2, 0.5, 0.7))
            ]
            expected = np.array(by_class) / sum(by_class)
            np.testing.assert_allclose(history.class_shares(what)[i], expected, rtol=1e-4)
    assert abs(shares['pt_positive'] - shares['pt_negative']).min() > 0.05


def test_run_writes_history_and_pictures(tmp_path):
    plain = train(tmp_path / 'plain')
    runner = train(tmp_path / 'run', hooks=(dict(type='FocalLossAnalysisHook', interval=3),))
    for name, value in plain.model.state_dict().items():
        assert torch.equal(value, runner.model.state_dict()[name]), name  # looking changes nothing
    histories = load_histories(tmp_path / 'run/focal_loss/history.json')
    assert set(histories) == {'bbox_head.loss_obj', 'bbox_head.loss_cls'}
    objectness = histories['bbox_head.loss_obj']
    assert objectness.iters == [3, 6, 9, 12]
    assert objectness.gamma == [[2.0]] * 4 and objectness.weight == [[0.25]] * 4
    assert histories['bbox_head.loss_cls'].classes == ['a', 'b']
    assert (tmp_path / 'run/focal_loss/bbox_head.loss_obj.png').stat().st_size > 10_000
    lines = next(tmp_path.glob('run/*/vis_data/scalars.json')).read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    rows = [row for row in rows if 'focal/bbox_head.loss_obj/easy_negative_loss' in row]
    assert [row['step'] for row in rows] == [3, 6, 9, 12]
    shares = objectness.shares()
    groups = [f'{g}_{s}_loss' for g in ('easy', 'hard') for s in ('negative', 'positive')]
    np.testing.assert_allclose(sum(shares[name] for name in groups), 1, rtol=1e-6)
    key = 'focal/bbox_head.loss_obj/easy_negative_loss'
    np.testing.assert_allclose([row[key] for row in rows], shares['easy_negative_loss'], rtol=1e-4)


def test_a_long_run_keeps_fewer_records(tmp_path, monkeypatch):
    from mmdet_yolo2fl.engine.hooks import focal_loss_analysis_hook as module

    monkeypatch.setattr(module, 'MAX_RECORDS', 4)
    hooks = (dict(type='FocalLossAnalysisHook', interval=1),)
    train(tmp_path / 'whole', hooks=hooks)
    with pytest.raises(InterruptedRunError):
        train(tmp_path / 'part', hooks=(*hooks, dict(type='InterruptHook', at_iter=6)))
    train(tmp_path / 'part', hooks=hooks, resume=True)
    for name in ('whole', 'part'):
        histories = load_histories(tmp_path / name / 'focal_loss/history.json')
        for history in histories.values():
            # 1 to 4, of which 2 and 4 stay; with 6 and 8 they are four again; then every fourth.
            assert history.every == 4 and history.iters == [4, 8, 12]
            assert len(history.tables) == 3
        objectness = histories['bbox_head.loss_obj']
        assert len(objectness.gamma) == len(objectness.weight) == 3


def test_resumed_run_goes_on_with_the_history(tmp_path):
    hooks = (dict(type='FocalLossAnalysisHook', interval=2),)
    train(tmp_path / 'whole', hooks=hooks)
    with pytest.raises(InterruptedRunError):
        train(tmp_path / 'part', hooks=(*hooks, dict(type='InterruptHook', at_iter=6)))
    train(tmp_path / 'part', hooks=hooks, resume=True)
    whole, part = (
        load_histories(tmp_path / name / 'focal_loss/history.json')['bbox_head.loss_obj']
        for name in ('whole', 'part')
    )
    assert part.iters == whole.iters == [2, 4, 6, 8, 10, 12]
    np.testing.assert_allclose(part.tables, whole.tables, rtol=1e-5)


@pytest.mark.parametrize('later', ['AutomatedFocalLoss', 'EqualizedFocalLoss'])
@pytest.mark.parametrize('first', ['BalancedFocalLoss', 'CrossEntropyLoss'])
def test_a_run_that_is_resumed_with_another_loss(tmp_path, monkeypatch, first, later):
    """It is drawn, and each record has its own gamma."""
    hooks, plain = (dict(type='FocalLossAnalysisHook', interval=2),), tiny_run.model_cfg

    def use(name):
        loss = dict(type=name, use_sigmoid=True)
        loss |= dict(num_classes=2) if name == 'EqualizedFocalLoss' else {}
        model = plain()
        # In the joint way all kinds of loss fit.
        model['bbox_head'] |= dict(loss_obj=None, loss_cls=loss)
        monkeypatch.setattr(tiny_run, 'model_cfg', lambda resize: model)

    use(first)
    with pytest.raises(InterruptedRunError):
        train(tmp_path, hooks=(*hooks, dict(type='InterruptHook', at_iter=6)))
    use(later)
    train(tmp_path, hooks=hooks, resume=True)
    (history,) = load_histories(tmp_path / 'focal_loss/history.json').values()
    assert history.iters == [2, 4, 6, 8, 10, 12]
    lengths = {len(getattr(history, name)) for name in ('tables', 'gamma', 'weight', 'by_class')}
    assert lengths == {6}
    before, after = ({*map(len, part)} for part in (history.gamma[:2], history.gamma[2:]))
    assert before == {first == 'BalancedFocalLoss'}
    assert after == {2 if later == 'EqualizedFocalLoss' else 1}
    assert (tmp_path / 'focal_loss/bbox_head.loss_cls.png').stat().st_size > 10_000


def test_history_survives_a_file(tmp_path):
    pred, labels, _ = batch(6)
    table, by_class = look(BalancedFocalLoss(), pred, labels)
    history = History(0.9, list('abc'), [5], [table], [by_class], [[2.0]], [[0.25]])
    save_histories(tmp_path / 'h.json', dict(loss=history))
    loaded = load_histories(tmp_path / 'h.json')['loss']
    np.testing.assert_allclose(loaded.tables, history.tables, rtol=1e-5)
    np.testing.assert_allclose(loaded.by_class, history.by_class, rtol=1e-5)
    assert (loaded.iters, loaded.gamma, loaded.classes) == ([5], [[2.0]], list('abc'))
    (tmp_path / 'h.json').write_text('{"loss": [1]}')
    with pytest.raises(ValueError, match='h.json: not written by'):
        load_histories(tmp_path / 'h.json')


@pytest.mark.parametrize(
    'options, message',
    [
        (dict(interval=0), 'interval'),
        (dict(easy_pt=1.0), 'easy_pt'),
    ],
)
def test_bad_arguments(options, message):
    with pytest.raises(ValueError, match=message):
        FocalLossAnalysisHook(**options)


def test_unknown_loss_is_named(tmp_path):
    hook = dict(type='FocalLossAnalysisHook', losses=['bbox_head.loss_wh2'])
    with pytest.raises(ValueError, match=r"loss_wh2.*'bbox_head.loss_obj': 'BalancedFocalLoss'"):
        train(tmp_path, hooks=(hook,))
    with pytest.raises(ValueError, match='found no classification loss'):
        FocalLossAnalysisHook()._choose(nn.Linear(1, 1))


def test_resumed_from_an_earlier_checkpoint_each_record_is_there_once(tmp_path):
    hook = dict(type='FocalLossAnalysisHook', interval=2, easy_pt=0.8)
    train(tmp_path, hooks=[dict(hook)])
    (tmp_path / 'last_checkpoint').write_text(str(tmp_path / 'epoch_1.pth'))
    train(tmp_path, hooks=[dict(hook)], resume=True)
    history = load_histories(tmp_path / 'focal_loss/history.json')['bbox_head.loss_obj']
    assert history.iters == [2, 4, 6, 8, 10, 12]


def test_the_hook_has_the_border_of_its_option(tmp_path):
    hook = FocalLossAnalysisHook(interval=2, easy_pt=0.8)
    train(tmp_path, epochs=1, watch=hook)
    assert (hook.edges - math.log(4)).abs().min() < 1e-6


def test_each_group_is_drawn_under_its_name():
    tables = np.zeros((2, 3, 2, len(EDGES) + 1))
    tables[:, LOSS, NEGATIVE, [100, 3]] = 3, 1  # easy, hard
    figure = focal_analysis.draw(dict(a=History(0.9, iters=[1, 2], tables=list(tables))))
    axis = next(a for a in figure.axes if a.get_title().startswith('Share of the loss'))
    easy = axis.collections[0]
    assert easy.get_label() == 'easy negatives'
    assert easy.get_paths()[0].vertices[:, 1].max() == pytest.approx(0.75)
