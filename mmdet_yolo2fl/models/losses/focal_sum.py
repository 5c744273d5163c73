"""The sum of focal loss over many elements, with next to no memory beside the logits."""

import warnings
from functools import cache
from importlib.util import find_spec
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import softplus

# Elements of a block: large enough for two cores to share, small enough for their caches.
BLOCK = 1 << 17


class FocalTerms(NamedTuple):
    """What of a focal loss does not change from element to element.

    Attributes:
        gamma (float | Tensor): Focusing parameter >= 0, 0-d or ``(C,)``.
        positive (Tensor | None): Weight of the positive term, ``(C,)`` or 0-d; None is 1.
        alpha (Tensor | None): ``(C,)`` or 0-d.
        balanced (bool): Negatives weigh ``1 - alpha`` instead of ``alpha``.
        scale (Tensor | None): Weight of both terms, ``(C,)``.
        poly (float): Weight of the further term ``(1 - pt)^(gamma + 1)`` (poly-1).
    """

    gamma: float | Tensor
    positive: Tensor | None
    alpha: Tensor | None
    balanced: bool = True
    scale: Tensor | None = None
    poly: float = 0.0

    @property
    def negative_weight(self) -> Tensor | None:
        """The weight of a negative element, ``(C,)`` or 0-d."""
        alpha = self.alpha
        if self.balanced and alpha is not None:
            alpha = 1 - alpha
        if alpha is None or self.scale is None:
            return self.scale if alpha is None else alpha
        return alpha * self.scale

    def at(self, classes: Tensor) -> 'FocalTerms':
        """The terms of elements of the given classes."""
        per_class = ('gamma', 'positive', 'alpha', 'scale')
        values = {name: getattr(self, name) for name in per_class}
        return self._replace(
            **{
                name: value[classes]
                for name, value in values.items()
                if isinstance(value, Tensor) and value.dim()
            }
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
    if terms.poly:
        share = terms.poly * factor * (positive + negative)
        value = value + share * miss
        slope = slope + share * (terms.gamma + 1) * prob * complement * (1 - 2 * target)
    if terms.alpha is not None:
        alpha = terms.alpha
        if terms.balanced:
            alpha = alpha * target + (1 - alpha) * negative
        value, slope = value * alpha, slope * alpha
    if terms.scale is not None:
        value, slope = value * terms.scale, slope * terms.scale
    return value, slope


def refuse_second_derivative() -> None:
    """In a backward pass by hand, which PyTorch would take for a constant.

    (Its own ``once_differentiable`` says so only where the gradient of the result needs one.)

    Raises:
        RuntimeError: If there shall be one, by ``create_graph=True``.
    """
    if torch.is_grad_enabled():
        raise RuntimeError(
            'BalancedFocalLoss: the sum of the losses has no second derivative (create_graph=True)'
            ": take reduction_override='none', and sum them yourself"
        )


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
            loss = loss if weight is None else loss * weight[rows]
            total += loss.sum(dtype=torch.float64)
        if not dense:
            rows, classes, at_truth, label = _truths(logits, target, score)
            own = terms.at(classes)
            extra = value_and_slope(at_truth, label, own)[0]
            extra = extra - value_and_slope(at_truth, torch.zeros_like(label), own)[0]
            total += (extra * _weight_at(weight, rows, classes)).double().sum()
        return total.float()

    @staticmethod
    def backward(ctx, grad_output):
        refuse_second_derivative()
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


@cache
def triton_works(device: torch.device) -> bool:
    """Whether Triton is there and can compile for a GPU; if not, a warning says why, once.

    PyTorch for NVIDIA and AMD brings it along, but it needs a C compiler, and from NVIDIA a GPU of
    capability 7.0, with which PyTorch's own kernels do not.
    """
    if find_spec('triton') is None:
        return False
    problem = _try_triton(device)
    if problem:
        warnings.warn(
            f'Triton does not work on {device} ({problem}): focal loss takes the plain formula '
            'there, with more memory',
            stacklevel=2,
        )
    return not problem


def _try_triton(device: torch.device) -> str:
    if torch.version.hip is None and torch.cuda.get_device_capability(device) < (7, 0):
        return 'the GPU is older than capability 7.0'
    torch.cuda.synchronize(device)  # an error of before is not Triton's
    try:
        from .focal_triton import triton_focal_sum

        with torch.no_grad():
            logit = torch.zeros(1, 1, device=device)
            triton_focal_sum(logit, logit, FocalTerms(2.0, None, None))
    except Exception as error:  # whatever a compiler that is missing or too old may raise
        return f'{type(error).__name__}: {error}'
    return ''


def focal_sum(
    logits: Tensor,
    target: Tensor,
    terms: FocalTerms,
    score: Tensor | None = None,
    weight: Tensor | None = None,
) -> Tensor:
    """Sum of sigmoid focal loss without temporaries of the logits' size.

    On a CPU in blocks that fit its caches, on a GPU by a Triton kernel forward and one backward
    (:mod:`.focal_triton`). Beside the logits the forward pass needs next to nothing, the
    backward pass the gradient.

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
    if logits.is_cuda:
        from .focal_triton import triton_focal_sum

        return triton_focal_sum(logits, target, terms, score, weight)
    return _FocalSum.apply(logits, target, score, weight, terms)


def _blocks(logits: Tensor):
    # A GPU needs more to do at once.
    rows = max(1, (32 * BLOCK if logits.is_cuda else BLOCK) // logits.shape[1])
    for start in range(0, len(logits), rows):
        yield slice(start, start + rows)


def _negative_value(logit: Tensor, terms: FocalTerms) -> Tensor:
    """As :func:`value_and_slope` for a label of 0 everywhere, with half the work."""
    prob = logit.sigmoid()
    loss = softplus(logit)
    if terms.poly:
        loss.add_(prob, alpha=terms.poly)
    loss.mul_(_power(prob, terms.gamma))
    weight = terms.negative_weight
    return loss if weight is None else loss.mul_(weight)


def _negative_slope(logit: Tensor, terms: FocalTerms) -> Tensor:
    prob = logit.sigmoid()
    slope = softplus(logit).mul_(terms.gamma)
    if terms.poly:
        slope.add_(prob * (terms.gamma + 1), alpha=terms.poly)
    slope.mul_(1 - prob).add_(prob).mul_(_power(prob, terms.gamma))
    weight = terms.negative_weight
    return slope if weight is None else slope.mul_(weight)


def class_gradients(
    logits: Tensor,
    target: Tensor,
    terms: FocalTerms,
    score: Tensor | None = None,
    weight: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Sums of the gradient's magnitude over positives and over negatives, for each class.

    Args:
        logits, target, terms, score, weight: As of :func:`focal_sum`, on any device.

    Returns:
        tuple[Tensor, Tensor]: ``(C,)`` float32 each. A soft label y counts as y positives.
    """
    positive = logits.new_zeros(logits.shape[1], dtype=torch.float32)
    negative = torch.zeros_like(positive)
    dense = target.shape == logits.shape
    for rows in _blocks(logits):
        block = logits[rows].float()
        if dense:
            label = target[rows].float()
            slope = value_and_slope(block, label, terms)[1].abs()
        else:
            slope = _negative_slope(block, terms).abs_()
        if weight is not None:
            slope *= weight[rows]
        if dense:
            positive += (slope * label).sum(0)
            negative += (slope * (1 - label)).sum(0)
        else:
            negative += slope.sum(0)
    if not dense:
        # Of the background too, and then left out: looking for objects would wait for a GPU.
        known, classes = target < logits.shape[1], target.clamp(max=logits.shape[1] - 1)
        at_truth = logits.gather(1, classes[:, None])[:, 0].float()
        label = torch.ones_like(at_truth) if score is None else score.to(at_truth.dtype)
        own = terms.at(classes)
        slopes = [value_and_slope(at_truth, y, own)[1].abs() for y in (label, 0 * label)]
        if weight is not None:
            column = classes if weight.shape[1] > 1 else torch.zeros_like(classes)
            at_weight = weight.gather(1, column[:, None])[:, 0]
            slopes = [slope * at_weight for slope in slopes]
        slope, as_negative = (torch.where(known, slope, 0.0) for slope in slopes)
        positive.index_add_(0, classes, slope * label)
        negative.index_add_(0, classes, slope * (1 - label) - as_negative)
        negative.clamp_(min=0)  # what rounding may leave
    return positive, negative


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
