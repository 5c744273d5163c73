"""What a classification loss does to the data of a run: who is easy, who pays, who teaches."""

import json
import math
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
import torch
from mmdet.models.losses import CrossEntropyLoss, FocalLoss, MSELoss, QualityFocalLoss
from scipy.special import expit, logit
from torch import Tensor, nn

from .models.losses.balanced_focal_loss import BalancedFocalLoss, dense_target, fit_weight
from .whole_files import write_text

# Losses of which every element stands for itself, so that they can be looked at in blocks.
SUPPORTED = (BalancedFocalLoss, FocalLoss, CrossEntropyLoss, QualityFocalLoss, MSELoss)
BLOCK = 1 << 22
LIMIT, STEP = 16.0, 0.25
COUNT, LOSS, GRADIENT = range(3)
NEGATIVE, POSITIVE = range(2)
# What a history has for each record.
LISTS = ('iters', 'tables', 'by_class', 'gamma', 'weight')


def bin_edges(easy_pt: float) -> np.ndarray:
    """Borders of the bins by ``logit(pt)``; one lies at that of ``easy_pt``."""
    grid = np.arange(-LIMIT, LIMIT + STEP / 2, STEP)
    border = logit(easy_pt)
    return np.unique(np.append(grid[np.abs(grid - border) > STEP / 4], border))


def observe(
    loss_module: nn.Module,
    pred: Tensor,
    target: Tensor | tuple[Tensor, Tensor],
    weight: Tensor | None,
    avg_factor: float | Tensor | None,
    edges: Tensor,
    num_classes: int,
) -> tuple[Tensor, Tensor]:
    """Count, loss and magnitude of the gradient of every element of one call, in bins.

    The loss is taken once more, by its ``forward``, without its state or hooks going on. An
    element is a logit; of a softmax loss, a row. Elements of weight 0 and negative indices
    (``ignore_index``) do not count. pt is the probability of what the label says: that of the
    object where the label is above 0, else that of the background. The gradient is that by the
    logit (of a row: the sum of the magnitudes over its logits).

    Args:
        loss_module (nn.Module): One of ``SUPPORTED``.
        pred, target, weight, avg_factor: As it was called with.
        edges (Tensor): ``(B - 1,)``, of :func:`bin_edges`.
        num_classes (int): Of the data set.

    Returns:
        tuple[Tensor, Tensor]: ``(3, 2, B)`` float64: count, loss, gradient; of negatives,
        positives; by ``logit(pt)``. The same by class, ``(3, 2, num_classes)``, all 0 if the
        predictions do not tell classes apart. The loss of ``QualityFocalLoss``, which sums over
        the classes, is NaN.
    """
    sigmoid = getattr(loss_module, 'use_sigmoid', True)
    num_columns = pred.shape[-1]
    pred = pred.detach().float()
    rows = pred.reshape(-1, num_columns)
    score = None
    if isinstance(target, (tuple, list)):
        target, score = target
        score = score.reshape(-1)
    is_dense = target.shape == pred.shape
    target = target.reshape(-1, num_columns) if is_dense else target.reshape(-1)
    elements = rows.shape if sigmoid else rows.shape[:1]
    if weight is not None:
        shaped = pred if sigmoid else pred[..., 0]
        weight = fit_weight(weight.detach(), shaped).expand_as(shaped).reshape(elements)
    if not is_dense:
        ignored = target < 0
        target = target.masked_fill(ignored, num_columns if sigmoid else 0)
        weight = rows.new_ones(elements) if weight is None else weight
        weight = weight.masked_fill(ignored[:, None] if sigmoid else ignored, 0)
    number = math.prod(elements) if avg_factor is None else avg_factor
    scale = 1 / number if loss_module.reduction == 'mean' else 1.0

    num_bins = len(edges) + 1
    table = rows.new_zeros(3, 2 * num_bins, dtype=torch.float64)
    # A softmax loss may have a column more, for the background.
    has_classes = num_columns == num_classes or (not sigmoid and num_columns == num_classes + 1)
    by_class = table.new_zeros(3, 2 * num_classes)
    was_training = loss_module.training
    loss_module.train(False)
    step = max(1, BLOCK // num_columns)
    for start in range(0, len(rows), step):
        part = slice(start, start + step)
        labels = target[part]
        if score is not None:
            labels = labels, score[part]
        look = _sigmoid_elements if sigmoid else _softmax_elements
        zt, positive, classes, loss, gradient = look(loss_module, rows[part], labels, num_classes)
        part_weight = torch.ones_like(zt) if weight is None else weight[part]
        values = [(part_weight > 0), loss * part_weight * scale, gradient * part_weight * scale]
        where = torch.bucketize(zt, edges, right=True) + num_bins * positive
        _add(table, where, values)
        if has_classes and num_columns > 1:
            inside = classes < num_classes  # rows of background have no class
            classes = classes.clamp(max=num_classes - 1) + num_classes * positive
            _add(by_class, classes, [value * inside for value in values])
    loss_module.train(was_training)
    return table.view(3, 2, num_bins), by_class.view(3, 2, num_classes)


def _add(table: Tensor, where: Tensor, values: list[Tensor]) -> None:
    for sums, value in zip(table, values):
        sums.index_add_(0, where.flatten(), value.flatten().double())


def _sigmoid_elements(loss_module, rows, labels, num_classes):
    label = dense_target(rows, labels).float()
    positive = label > 0
    with torch.enable_grad():
        if hasattr(loss_module, 'use_sigmoid') and not getattr(loss_module, 'activated', False):
            logits = rows.clone().requires_grad_()
            pred = logits
        else:
            # What sums to 1 comes from Darknet's softmax.
            of_softmax = rows.shape[1] > 1 and (rows.sum(1) - 1).abs().max() < 1e-3
            logits = (rows.log() if of_softmax else rows.logit(eps=1e-7)).requires_grad_()
            pred = logits.softmax(-1) if of_softmax else logits.sigmoid()
        if isinstance(loss_module, QualityFocalLoss):
            target = labels if isinstance(labels, tuple) else label
        else:
            target = (
                label if isinstance(labels, tuple) or isinstance(loss_module, MSELoss) else labels
            )
        loss = loss_module.forward(pred, target, reduction_override='none')
        (gradient,) = torch.autograd.grad(loss.sum(), logits)
    loss = loss.detach()
    loss = loss.reshape(rows.shape) if loss.numel() == rows.numel() else rows.new_tensor(math.nan)
    zt = rows if pred is logits else rows.logit(eps=1e-7)
    zt = torch.where(positive, zt, -zt)
    classes = torch.arange(rows.shape[1], device=rows.device).expand_as(rows)
    return zt, positive, classes, loss.expand_as(rows), gradient.abs()


def _softmax_elements(loss_module, rows, labels, num_classes):
    with torch.enable_grad():
        logits = rows.clone().requires_grad_()
        loss = loss_module.forward(logits, labels, reduction_override='none')
        (gradient,) = torch.autograd.grad(loss.sum(), logits)
    if labels.shape == rows.shape:
        labels = labels.argmax(-1)
    log_pt = rows.log_softmax(-1).gather(1, labels[:, None])[:, 0]
    # logit(pt) = log pt - log(1 - pt)
    zt = log_pt - torch.log(-torch.expm1(log_pt.clamp(max=-1e-7)))
    return zt, labels < num_classes, labels, loss.detach().reshape(-1), gradient.abs().sum(-1)


@dataclass
class History:
    """What was recorded of one loss.

    Attributes:
        easy_pt (float): pt from which an element is called easy.
        classes (list[str]): Names; empty if the loss does not tell classes apart.
        iters (list[int]): Iterations that were looked at, from 1.
        tables (list[np.ndarray]): ``(3, 2, B)`` each, of :func:`observe`.
        by_class (list[np.ndarray]): ``(3, 2, C)`` each, or empty.
        gamma (list[list[float]]): One value, or one for each class; empty if the loss has none.
        weight (list[list[float]]): The alpha; of ``EqualizedFocalLoss`` the weight of each class.
            (Of a run that was resumed with another loss ``gamma``, ``weight`` and ``by_class`` may
            have entries that are empty or zero.)
        every (int): One of so many of the hook's looks is recorded; grows in a long run.
    """

    easy_pt: float
    classes: list[str] = field(default_factory=list)
    iters: list[int] = field(default_factory=list)
    tables: list[np.ndarray] = field(default_factory=list)
    by_class: list[np.ndarray] = field(default_factory=list)
    gamma: list[list[float]] = field(default_factory=list)
    weight: list[list[float]] = field(default_factory=list)
    every: int = 1

    def append(self, name: str, value, is_known: bool, blank) -> None:
        """Add to ``by_class``, ``gamma`` or ``weight``, for the last of ``iters``.

        Args:
            name (str): Which of them.
            value: The record, or ``blank``.
            is_known (bool): Whether the loss has such a thing; a list that never had one stays
                empty.
            blank: What stands for records that lack it, so that the lists stay parallel.
        """
        values = getattr(self, name)
        if values or is_known:
            values.extend([blank] * (len(self.iters) - 1 - len(values)))
            values.append(value)

    def thin(self, limit: int) -> None:
        """Once there are so many records, keep every second one, and look half as often."""
        if len(self.iters) >= limit:
            for name in LISTS:
                setattr(self, name, getattr(self, name)[1::2])
            self.every *= 2

    def drop_after(self, iteration: int) -> None:
        """Forget what a resumed run will see again."""
        kept = sum(number <= iteration for number in self.iters)
        for name in LISTS:
            setattr(self, name, getattr(self, name)[:kept])

    def shares(self) -> dict[str, np.ndarray]:
        """Shares in 0..1 over the iterations, ``(T,)`` each.

        ``<easy|hard>_<negative|positive>_<count|loss|gradient>``, and the mean over elements
        ``pt_negative``, ``pt_positive`` (from the bins: to about 0.03).
        """
        tables = np.stack(self.tables)
        border = int((bin_edges(self.easy_pt) <= logit(self.easy_pt) + 1e-9).sum())
        found = {}
        for what, kind in ((COUNT, 'count'), (LOSS, 'loss'), (GRADIENT, 'gradient')):
            total = tables[:, what].sum((1, 2))
            for label, name in ((NEGATIVE, 'negative'), (POSITIVE, 'positive')):
                easy = tables[:, what, label, border:].sum(1)
                hard = tables[:, what, label, :border].sum(1)
                found[f'easy_{name}_{kind}'] = _ratio(easy, total)
                found[f'hard_{name}_{kind}'] = _ratio(hard, total)
        centres = bin_centres(self.easy_pt)
        for label, name in ((NEGATIVE, 'negative'), (POSITIVE, 'positive')):
            count = tables[:, COUNT, label]
            found[f'pt_{name}'] = _ratio((count * centres).sum(1), count.sum(1))
        return found

    def class_shares(self, what: int) -> np.ndarray:
        """Share of each class in the loss or the gradient of the positives, ``(T, C)``."""
        values = np.stack(self.by_class)[:, what, POSITIVE]
        return _ratio(values, values.sum(1, keepdims=True))

    def cumulative(self, label: int, since: float = 0.5) -> tuple[np.ndarray, np.ndarray]:
        """The curve of the paper's figure 4: share of the loss over that of the elements.

        Args:
            label (int): ``NEGATIVE`` or ``POSITIVE``.
            since (float): Records before this share of the run are left out. Defaults to 0.5.

        Returns:
            tuple[np.ndarray, np.ndarray]: Share of the elements, from the easiest on, and the
            share of the loss that they make.
        """
        table = np.stack(self.tables)[int(len(self.tables) * since) :, :, label].sum(0)
        table = np.nan_to_num(table[:, ::-1])
        curve = np.concatenate([np.zeros((3, 1)), table.cumsum(1)], 1)
        return _ratio(curve[COUNT], curve[COUNT, -1]), _ratio(curve[LOSS], curve[LOSS, -1])

    def to_json(self) -> dict:
        """Plain lists, numbers to six digits."""
        lists = {
            name: [_rounded(x) for x in getattr(self, name)] for name in ('tables', 'by_class')
        }
        return vars(self) | lists

    @classmethod
    def from_json(cls, content: dict) -> 'History':
        """The inverse of :meth:`to_json`."""
        lists = {name: [np.array(x) for x in content[name]] for name in ('tables', 'by_class')}
        return cls(**(content | lists))


def bin_centres(easy_pt: float) -> np.ndarray:
    """pt in the middle of each bin."""
    edges = bin_edges(easy_pt)
    middle = (edges[1:] + edges[:-1]) / 2
    return expit(np.concatenate([[edges[0]], middle, [edges[-1]]]))


def _ratio(part, whole) -> np.ndarray:
    part, whole = np.broadcast_arrays(np.asarray(part, float), np.asarray(whole, float))
    return np.divide(part, whole, out=np.full(part.shape, math.nan), where=whole > 0)


def _rounded(values: np.ndarray) -> list:
    return np.vectorize(lambda value: float(f'{value:.6g}'))(values).tolist()


def save_histories(path: Path, histories: dict[str, History]) -> None:
    """Write them as JSON, whole or not at all."""
    content = {name: history.to_json() for name, history in histories.items()}
    write_text(path, json.dumps(content))


def load_histories(path: Path) -> dict[str, History]:
    """Read what :func:`save_histories` wrote.

    Raises:
        ValueError: If the file holds something else.
    """
    try:
        content = json.loads(Path(path).read_text(encoding='utf-8'))
        return {name: History.from_json(history) for name, history in content.items()}
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ValueError(
            f'{path}: not written by FocalLossAnalysisHook ({type(error).__name__}: {error})'
        ) from error


GROUPS = {
    'easy negatives': ('easy_negative', 'tab:blue'),
    'hard negatives': ('hard_negative', 'tab:cyan'),
    'easy positives': ('easy_positive', 'tab:orange'),
    'hard positives': ('hard_positive', 'tab:red'),
}


def draw(histories: dict[str, History]):
    """A figure with one row for each history, to look at one run or to compare several.

    From left to right: pt in the first and last quarter; the cumulative loss; shares of the
    loss, and of the gradient, over the iterations; the classes, if the loss tells them apart;
    gamma, if it changed.

    Args:
        histories (dict[str, History]): By the name to show, with records each.

    Returns:
        matplotlib.figure.Figure: To be saved.
    """
    from matplotlib.figure import Figure

    panels = [
        _draw_pt,
        _draw_cumulative,
        partial(_draw_shares, kind='loss'),
        partial(_draw_shares, kind='gradient'),
    ]
    if any(history.by_class for history in histories.values()):
        panels.append(_draw_classes)
    if any(len({tuple(gamma) for gamma in h.gamma if gamma}) > 1 for h in histories.values()):
        panels.append(_draw_gamma)
    figure = Figure(figsize=(4.2 * len(panels), 3.6 * len(histories) + 0.3), layout='constrained')
    axes = figure.subplots(len(histories), len(panels), squeeze=False)
    for row, (name, history) in zip(axes, histories.items()):
        for axis, panel in zip(row, panels):
            panel(axis, history)
        row[0].set_ylabel(f'{name}\n\n{row[0].get_ylabel()}')
    return figure


def _draw_pt(axis, history) -> None:
    edges = expit(bin_edges(history.easy_pt))
    fine = np.concatenate([[0], edges, [1]])
    bins = np.linspace(0, 1, 21)
    middle = (bins[1:] + bins[:-1]) / 2
    tables = np.stack(history.tables)
    quarter = max(1, len(tables) // 4)
    for label, name, color in (
        (NEGATIVE, 'negatives', 'tab:blue'),
        (POSITIVE, 'positives', 'tab:red'),
    ):
        for part, style, when in (
            (tables[:quarter], ':', 'first'),
            (tables[-quarter:], '-', 'last'),
        ):
            counts = part[:, COUNT, label].sum(0)
            if not counts.any():
                continue
            # Spread the bins by logit evenly over those by probability.
            inside = np.interp(bins, fine, np.concatenate([[0], counts.cumsum()]))
            share = _ratio(np.diff(inside), counts.sum())
            axis.plot(middle, share, style, color=color, label=f'{name}, {when} quarter')
    axis.set(title='Probability of the right answer', xlabel='pt', ylabel='share', yscale='log')
    axis.set(xlim=(0, 1), ylim=(1e-5, 1.5))
    axis.legend(fontsize=8)
    axis.grid(alpha=0.3)


def _draw_cumulative(axis, history) -> None:
    for label, name, color in (
        (NEGATIVE, 'negatives', 'tab:blue'),
        (POSITIVE, 'positives', 'tab:red'),
    ):
        if np.stack(history.tables)[:, COUNT, label].any():
            axis.plot(*history.cumulative(label), color=color, label=name)
    axis.plot([0, 1], [0, 1], ':', color='grey')
    axis.set(title='Cumulative loss, second half', xlim=(0, 1), ylim=(0, 1))
    axis.set(xlabel='elements, from the easiest on', ylabel='share of their loss')
    axis.legend(fontsize=8)
    axis.grid(alpha=0.3)


def _draw_shares(axis, history, kind) -> None:
    shares = history.shares()
    values = [np.nan_to_num(shares[f'{group}_{kind}']) for group, _ in GROUPS.values()]
    colors = [color for _, color in GROUPS.values()]
    axis.stackplot(history.iters, values, labels=GROUPS, colors=colors, alpha=0.85)
    easy = f'easy: pt >= {history.easy_pt:g}'
    axis.set(title=f'Share of the {kind} ({easy})', xlabel='iteration', ylim=(0, 1))
    if len(history.iters) > 1:
        axis.set_xlim(history.iters[0], history.iters[-1])
    axis.legend(fontsize=7, loc='lower left', ncols=2)


def _draw_classes(axis, history) -> None:
    if not history.by_class:
        axis.axis('off')
        return
    shares = {
        'objects': history.class_shares(COUNT),
        'loss': history.class_shares(LOSS),
        'gradient': history.class_shares(GRADIENT),
    }
    half = len(history.iters) // 2
    order = np.argsort(np.nan_to_num(shares['objects'][half:]).mean(0))[::-1][:20]
    for offset, (name, values) in zip((-0.27, 0, 0.27), shares.items()):
        mean = np.nan_to_num(values[half:]).mean(0)[order]
        axis.barh(np.arange(len(order)) + offset, mean, 0.27, label=name)
    axis.set_yticks(range(len(order)), [history.classes[index] for index in order])
    axis.invert_yaxis()
    axis.set(title='Positives by class, second half', xlabel='share')
    axis.legend(fontsize=8)


def _draw_gamma(axis, history) -> None:
    if not any(history.gamma):
        axis.axis('off')
        return
    # Of a run that was resumed with another loss, the last one's.
    length = len([gamma for gamma in history.gamma if gamma][-1])
    known = [(i, gamma) for i, gamma in zip(history.iters, history.gamma) if len(gamma) == length]
    names = history.classes if length == len(history.classes) else ['gamma']
    for name, values in list(zip(names, zip(*(gamma for _, gamma in known))))[:10]:
        axis.plot([iteration for iteration, _ in known], values, label=name)
    axis.set(title='Effective gamma', xlabel='iteration')
    axis.legend(fontsize=8)
    axis.grid(alpha=0.3)
