"""The sum of focal loss on a GPU: one Triton kernel forward, one backward.

Each reads the logits once; the backward kernel computes again what the forward kernel did, so
nothing of their size is kept in between.
"""

import math
from contextlib import nullcontext

import torch
import triton
import triton.language as tl
from torch import Tensor

from .focal_sum import FocalTerms, refuse_second_derivative

BLOCK = 4096
TINY = tl.constexpr(torch.finfo(torch.float32).tiny)


@triton.jit
def _logarithm_and_probability(zt):
    """log(1 + exp(-abs(zt))), 1 - pt and pt of a logit with the sign of its label."""
    e = tl.exp(-tl.abs(zt))
    # log(1 + e) / e by a Chebyshev series in 0..1: to 2e-7, and cheaper than the logarithm,
    # which would lose its digits near 1.
    series = e * 0.0052534578 - 0.0295885074
    series = series * e + 0.078361668
    series = series * e - 0.136747697
    series = series * e + 0.191114311
    series = series * e - 0.248443699
    series = series * e + 0.333192713
    series = series * e - 0.499995015
    series = series * e + 0.999999971
    large = 1 / (1 + e)
    small = e * large
    return series * e, tl.where(zt >= 0, small, large), tl.where(zt >= 0, large, small)


@triton.jit
def _power(miss, gamma, GAMMA: tl.constexpr):
    """``miss^gamma``; GAMMA is 0, 1 or 2 where gamma is, else 3."""
    if GAMMA == 0:
        return tl.zeros_like(miss) + 1.0
    elif GAMMA == 1:
        return miss
    elif GAMMA == 2:
        return miss * miss
    else:
        return tl.exp(gamma * tl.log(tl.maximum(miss, TINY)))


@triton.jit
def _hard(
    z, is_object, gamma, positive, alpha, scale, poly,
    GAMMA: tl.constexpr, BALANCED: tl.constexpr, POLY: tl.constexpr, BACKWARD: tl.constexpr,
):  # fmt: skip
    """Value, or with BACKWARD slope by the logit, for labels of 0 and 1.

    Most elements of a detector are of this kind, and their arithmetic, not the memory, would
    limit the speed if they took the way of soft labels.
    """
    zt = tl.where(is_object, z, -z)
    log1p, miss, pt = _logarithm_and_probability(zt)
    entropy = log1p + tl.maximum(-zt, 0.0)
    factor = _power(miss, gamma, GAMMA)
    weight = tl.where(is_object, alpha * positive, 1 - alpha if BALANCED else alpha) * scale
    if BACKWARD:
        slope = miss + gamma * pt * entropy
        if POLY:
            slope += poly * (gamma + 1) * pt * miss
        return tl.where(is_object, -weight, weight) * factor * slope
    else:
        if POLY:
            # The positive weight is in the weight already.
            entropy += poly * miss
        return weight * factor * entropy


@triton.jit
def _soft(
    z, y, gamma, positive, alpha, scale, poly,
    GAMMA: tl.constexpr, BALANCED: tl.constexpr, POLY: tl.constexpr, BACKWARD: tl.constexpr,
):  # fmt: skip
    """As :func:`_hard` for labels in 0..1, by the formulas of ``focal_sum.value_and_slope``."""
    log1p, complement, prob = _logarithm_and_probability(z)
    positive = y * positive
    negative = 1 - y
    entropy = positive * (log1p + tl.maximum(-z, 0.0)) + negative * (log1p + tl.maximum(z, 0.0))
    miss = prob * negative + complement * y
    factor = _power(miss, gamma, GAMMA)
    weight = scale * (alpha * y + (1 - alpha) * negative if BALANCED else alpha)
    share = poly * (positive + negative)
    if BACKWARD:
        both = prob * complement * (1 - 2 * y)
        slope = prob * negative - complement * positive
        slope += gamma * both / tl.maximum(miss, TINY) * entropy
        if POLY:
            slope += share * (gamma + 1) * both
        return weight * factor * slope
    else:
        if POLY:
            entropy += share * miss
        return weight * factor * entropy


@triton.jit
def _of_class(pointer, column, mask, default, KIND: tl.constexpr):
    """A term: 0 there is none, 1 one number for all, 2 one for each class."""
    if KIND == 0:
        return default
    elif KIND == 1:
        return tl.load(pointer).to(tl.float32)
    else:
        return tl.load(pointer + column, mask=mask, other=0.0).to(tl.float32)


@triton.jit
def _kernel(
    logits, target, score, weight, gammas, positives, alphas, scales, out, grad_output,
    gamma, poly, size,
    CLASSES: tl.constexpr, DENSE: tl.constexpr, SCORE: tl.constexpr, WEIGHT: tl.constexpr,
    GAMMAS: tl.constexpr, POSITIVES: tl.constexpr, ALPHAS: tl.constexpr, SCALES: tl.constexpr,
    GAMMA: tl.constexpr, BALANCED: tl.constexpr, POLY: tl.constexpr, BACKWARD: tl.constexpr,
    BLOCK: tl.constexpr, VECTOR: tl.constexpr,
):  # fmt: skip
    # VECTOR neighbours share a row, and with it the work of finding it and its label.
    # 64 bits for where the block begins, 32 within it.
    start = tl.program_id(0).to(tl.int64) * BLOCK
    group = tl.arange(0, BLOCK // VECTOR) * VECTOR
    first_row = start // CLASSES
    local = (start - first_row * CLASSES).to(tl.int32) + group
    row = local // CLASSES
    column = (local - row * CLASSES)[:, None] + tl.arange(0, VECTOR)[None, :]
    row = (first_row + row)[:, None]
    index = start + group[:, None] + tl.arange(0, VECTOR)[None, :]
    mask = (start + group < size)[:, None]

    z = tl.load(logits + index, mask=mask, other=0.0).to(tl.float32)
    gamma = _of_class(gammas, column, mask, gamma, GAMMAS)
    positive = _of_class(positives, column, mask, 1.0, POSITIVES)
    alpha = _of_class(alphas, column, mask, 1.0, ALPHAS)
    scale = _of_class(scales, column, mask, 1.0, SCALES)
    if DENSE or SCORE:
        if DENSE:
            y = tl.load(target + index, mask=mask, other=0.0).to(tl.float32)
        else:
            label = tl.load(target + row, mask=mask, other=-1)
            y = tl.load(score + row, mask=mask, other=0.0).to(tl.float32)
            y = tl.where(label == column, y, 0.0)
        result = _soft(z, y, gamma, positive, alpha, scale, poly, GAMMA, BALANCED, POLY, BACKWARD)
    else:
        is_object = tl.load(target + row, mask=mask, other=-1) == column
        result = _hard(
            z, is_object, gamma, positive, alpha, scale, poly, GAMMA, BALANCED, POLY, BACKWARD
        )
    if BACKWARD:
        result *= tl.load(grad_output).to(tl.float32)
    if WEIGHT == 1:
        result *= tl.load(weight + row, mask=mask, other=0.0).to(tl.float32)
    elif WEIGHT == 2:
        result *= tl.load(weight + index, mask=mask, other=0.0).to(tl.float32)
    if BACKWARD:
        tl.store(out + index, result, mask=mask)
    else:
        tl.store(out + tl.program_id(0), tl.sum(tl.sum(tl.where(mask, result, 0.0), 1), 0))


def _launch(out, grad_output, logits, target, score, weight, terms) -> None:
    gamma = terms.gamma
    plain_gamma = not isinstance(gamma, Tensor)
    arguments = (
        logits,
        target,
        score,
        weight,
        None if plain_gamma else gamma,
        terms.positive,
        terms.alpha,
        terms.scale,
        out,
        grad_output,
        float(gamma) if plain_gamma else 0.0,
        float(terms.poly),
        logits.numel(),
    )
    # Triton launches on the current GPU, which need not be that of the logits.
    with torch.cuda.device(logits.device) if logits.is_cuda else nullcontext():
        _kernel[(triton.cdiv(logits.numel(), BLOCK),)](
            *arguments,
            CLASSES=logits.shape[1],
            DENSE=target.shape == logits.shape,
            SCORE=score is not None,
            WEIGHT=0 if weight is None else (1 if weight.shape[1] == 1 else 2),
            GAMMAS=0 if plain_gamma else _kind(gamma),
            POSITIVES=_kind(terms.positive),
            ALPHAS=_kind(terms.alpha),
            SCALES=_kind(terms.scale),
            GAMMA=int(gamma) if plain_gamma and gamma in (0, 1, 2) else 3,
            BALANCED=terms.balanced and terms.alpha is not None,
            POLY=terms.poly != 0,
            BACKWARD=grad_output is not None,
            BLOCK=BLOCK,
            VECTOR=math.gcd(logits.shape[1], 4),
            num_warps=8,
        )


def _kind(term: Tensor | None) -> int:
    return 0 if term is None else (2 if term.numel() > 1 else 1)


class _TritonFocalSum(torch.autograd.Function):
    @staticmethod
    def forward(ctx, logits, target, score, weight, terms):
        ctx.save_for_backward(logits, target, score, weight)
        ctx.terms = terms
        blocks = triton.cdiv(logits.numel(), BLOCK)
        partial = torch.empty(blocks, dtype=torch.float32, device=logits.device)
        _launch(partial, None, logits, target, score, weight, terms)
        return partial.sum()

    @staticmethod
    def backward(ctx, grad_output):
        refuse_second_derivative()
        logits = ctx.saved_tensors[0]
        grad = torch.empty_like(logits)
        _launch(grad, grad_output.contiguous(), *ctx.saved_tensors, ctx.terms)
        return grad, None, None, None, None


def triton_focal_sum(
    logits: Tensor,
    target: Tensor,
    terms: FocalTerms,
    score: Tensor | None = None,
    weight: Tensor | None = None,
) -> Tensor:
    """Sum of sigmoid focal loss on a GPU; arguments as of ``focal_sum``."""
    # They may have stayed on the CPU; a head's losses have not.
    terms = terms._replace(
        **{
            name: value.to(logits.device)
            for name, value in terms._asdict().items()
            if isinstance(value, Tensor)
        }
    )
    # Triton compiles for each number of columns. Where every element stands for itself four will
    # do, whatever the head has, as YOLOv3's objectness all predictions of an image.
    is_by_class = any(isinstance(term, Tensor) and term.numel() > 1 for term in terms)
    shapes = {x.shape for x in (logits, target, weight) if x is not None}
    if len(shapes) == 1 and not is_by_class:
        columns = math.gcd(logits.numel(), 4)
        logits, target = logits.reshape(-1, columns), target.reshape(-1, columns)
        weight = None if weight is None else weight.reshape(-1, columns)
    # The kernels count elements one after another.
    contiguous = (None if x is None else x.contiguous() for x in (logits, target, score, weight))
    return _TritonFocalSum.apply(*contiguous, terms)
