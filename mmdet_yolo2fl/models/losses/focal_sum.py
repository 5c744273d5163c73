"""The sum of focal loss over many elements, with next to no memory beside the logits."""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import softplus

# Elements of a block: large enough for two cores to share, small enough for their caches.
BLOCK = 1 << 17


class FocalTerms(NamedTuple):
    """What of a focal loss does not change from element to element.

    Attributes:
        gamma (float | Tensor): Focusing parameter >= 0, for all classes or ``(C,)``.
        positive (Tensor | None): Weight of the positive term, ``(C,)`` or 0-d; None is 1.
        alpha (Tensor | None): ``(C,)`` or 0-d.
        balanced (bool): Negatives weigh ``1 - alpha`` instead of ``alpha``.
    """

    gamma: float | Tensor
    positive: Tensor | None
    alpha: Tensor | None
    balanced: bool

    @property
    def negative_alpha(self) -> Tensor | None:
        """The weight of a negative element, ``(C,)`` or 0-d."""
        return 1 - self.alpha if self.balanced and self.alpha is not None else self.alpha

    def at(self, classes: Tensor) -> 'FocalTerms':
        """The terms of elements of the given classes."""
        return FocalTerms(
            *(
                x[classes] if isinstance(x, Tensor) and x.dim() else x
                for x in (self.gamma, self.positive, self.alpha)
            ),
            self.balanced,
        )


def _power(base: Tensor, gamma: float | Tensor) -> Tensor:
    if isinstance(gamma, Tensor):
        return base.pow(gamma)
    if gamma == 2:
        return base * base
    return torch.ones_like(base) if gamma == 0 else base.pow(gamma)


def value_and_slope(logit: Tensor, target: Tensor, terms: FocalTerms) -> tuple[Tensor, Tensor]:
    """Focal loss of every element and its derivative by the logit (design, section 3).

    For a soft label y, ``miss = p (1-y) + (1-p) y`` takes the place of ``1 - pt``.

    Args:
        logit (Tensor): float32 or wider, any shape ``(..., C)``.
        target (Tensor): Labels in 0..1 of the same shape.
        terms (FocalTerms): Broadcast against it.

    Returns:
        tuple[Tensor, Tensor]: Both of the shape of ``logit``.
    """
    prob, complement = logit.sigmoid(), (-logit).sigmoid()
    positive = target if terms.positive is None else target * terms.positive
    negative = 1 - target
    entropy = positive * softplus(-logit) + negative * softplus(logit)
    miss = prob * negative + complement * target
    factor = _power(miss, terms.gamma)
    # The factor's own derivative: gamma miss^(gamma-1) p (1-p) (1-2y), without a negative power.
    ratio = prob * complement / miss.clamp(min=torch.finfo(miss.dtype).tiny)
    slope = factor * (
        prob * negative - complement * positive + terms.gamma * ratio * (1 - 2 * target) * entropy
    )
    value = factor * entropy
    if terms.alpha is not None:
        alpha = terms.alpha
        if terms.balanced:
            alpha = alpha * target + (1 - alpha) * negative
        value, slope = value * alpha, slope * alpha
    return value, slope


class _FocalSum(torch.autograd.Function):
    """Sum over ``(R, C)`` logits; the backward pass computes again what the forward pass did."""

    @staticmethod
    def forward(ctx, logits, target, score, weight, terms):
        ctx.save_for_backward(logits, target, score, weight)
        ctx.terms = terms
        dense = target.is_floating_point() or target.shape == logits.shape
        total = torch.zeros((), dtype=torch.float64)
        for rows in _blocks(logits):
            block = logits[rows].float()
            if dense:
                loss = value_and_slope(block, target[rows].to(block.dtype), terms)[0]
            else:
                loss = _negative_value(block, terms)
            total += _weighted_sum(loss, weight, rows)
        if not dense:
            rows, classes, at_truth, label = _truths(logits, target, score)
            own = terms.at(classes)
            extra = value_and_slope(at_truth, label, own)[0]
            extra = extra - value_and_slope(at_truth, torch.zeros_like(label), own)[0]
            total += (extra * _weight_at(weight, rows, classes)).double().sum()
        return total.float()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad_output):
        logits, target, score, weight = ctx.saved_tensors
        terms = ctx.terms
        dense = target.is_floating_point() or target.shape == logits.shape
        grad = torch.empty_like(logits)
        for rows in _blocks(logits):
            block = logits[rows].float()
            if dense:
                slope = value_and_slope(block, target[rows].to(block.dtype), terms)[1]
            else:
                slope = _negative_slope(block, terms)
            if weight is not None:
                slope *= weight[rows]
            torch.mul(slope, grad_output, out=slope)
            grad[rows] = slope
        if not dense:
            rows, classes, at_truth, label = _truths(logits, target, score)
            slope = value_and_slope(at_truth, label, terms.at(classes))[1]
            slope = slope * _weight_at(weight, rows, classes) * grad_output
            grad[rows, classes] = slope.to(grad.dtype)
        return grad, None, None, None, None


def focal_sum(
    logits: Tensor,
    target: Tensor,
    terms: FocalTerms,
    score: Tensor | None = None,
    weight: Tensor | None = None,
) -> Tensor:
    """Sum of sigmoid focal loss on the CPU, in blocks that fit the cache.

    Beside the logits the forward pass needs one block, the backward pass one block and the
    gradient.

    Args:
        logits (Tensor): ``(R, C)``, float32 or half.
        target (Tensor): Class indices ``(R,)``, C being the background, or labels ``(R, C)`` in
            0..1.
        terms (FocalTerms): Gamma and the weights.
        score (Tensor, optional): ``(R,)``, soft label at the class index; by default 1.
        weight (Tensor, optional): ``(R, 1)`` or ``(R, C)``.

    Returns:
        Tensor: 0-d float32.
    """
    return _FocalSum.apply(logits, target, score, weight, terms)


def _blocks(logits: Tensor):
    rows = max(1, BLOCK // logits.shape[1])
    for start in range(0, len(logits), rows):
        yield slice(start, start + rows)


def _negative_value(logit: Tensor, terms: FocalTerms) -> Tensor:
    """As :func:`value_and_slope` for a label of 0 everywhere, with half the work."""
    loss = softplus(logit) * _power(logit.sigmoid(), terms.gamma)
    alpha = terms.negative_alpha
    return loss if alpha is None else loss.mul_(alpha)


def _negative_slope(logit: Tensor, terms: FocalTerms) -> Tensor:
    prob = logit.sigmoid()
    slope = softplus(logit).mul_(1 - prob).mul_(terms.gamma).add_(prob)
    slope.mul_(_power(prob, terms.gamma))
    alpha = terms.negative_alpha
    return slope if alpha is None else slope.mul_(alpha)


def _weighted_sum(loss: Tensor, weight: Tensor | None, rows: slice) -> Tensor:
    return (loss if weight is None else loss * weight[rows]).sum(dtype=torch.float64)


def _truths(logits: Tensor, target: Tensor, score: Tensor | None):
    """Rows, classes, logits and labels of the elements that are no plain negatives."""
    rows = (target < logits.shape[1]).nonzero().squeeze(1)
    classes = target[rows]
    at_truth = logits[rows, classes].float()
    label = torch.ones_like(at_truth) if score is None else score[rows].to(at_truth.dtype)
    return rows, classes, at_truth, label


def _weight_at(weight: Tensor | None, rows: Tensor, classes: Tensor) -> Tensor | float:
    if weight is None:
        return 1.0
    return weight[rows, classes if weight.shape[1] > 1 else 0]
