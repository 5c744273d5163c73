"""The sum of focal loss on a GPU: one Triton kernel forward, one backward.

Each reads the logits once; the backward kernel computes again what the forward kernel did, so
nothing of their size is kept in between.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from .focal_sum import FocalTerms

BLOCK = 4096
TINY = tl.constexpr(torch.finfo(torch.float32).tiny)


@triton.jit
def _value_and_slope(
    z,
    y,
    gamma,
    positive,
    alpha,
    scale,
    poly,
    GAMMA: tl.constexpr,
    BALANCED: tl.constexpr,
):
    """As ``focal_sum.value_and_slope``. GAMMA is 0, 1 or 2 where gamma is; else 3."""
    e = tl.exp(-tl.abs(z))
    # The logarithm of nearly 1 loses its digits.
    log1p = tl.where(e < 0.01, e * (1 - e * (0.5 - e * 0.33333333)), tl.log(1 + e))
    large = 1 / (1 + e)
    small = e * large
    prob = tl.where(z >= 0, large, small)
    complement = tl.where(z >= 0, small, large)
    positive = y * positive
    negative = 1 - y
    entropy = positive * (log1p + tl.maximum(-z, 0.0)) + negative * (log1p + tl.maximum(z, 0.0))
    miss = prob * negative + complement * y
    floored = tl.maximum(miss, TINY)
    if GAMMA == 0:
        factor = tl.zeros_like(miss) + 1.0
    elif GAMMA == 1:
        factor = miss
    elif GAMMA == 2:
        factor = miss * miss
    else:
        factor = tl.exp(gamma * tl.log(floored))
    both = prob * complement * (1 - 2 * y)
    slope = factor * (prob * negative - complement * positive + gamma * both / floored * entropy)
    share = poly * factor * (positive + negative)
    value = factor * entropy + share * miss
    slope += share * (gamma + 1) * both
    weight = scale * (alpha * y + (1 - alpha) * negative if BALANCED else alpha)
    return value * weight, slope * weight


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
    GAMMA: tl.constexpr, BALANCED: tl.constexpr, BACKWARD: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    # 64 bits for where the block begins, 32 within it.
    start = tl.program_id(0).to(tl.int64) * BLOCK
    first_row = start // CLASSES
    local = (start - first_row * CLASSES).to(tl.int32) + tl.arange(0, BLOCK)
    row = local // CLASSES
    column = local - row * CLASSES
    row = first_row + row
    index = start + tl.arange(0, BLOCK)
    mask = index < size

    z = tl.load(logits + index, mask=mask, other=0.0).to(tl.float32)
    if DENSE:
        y = tl.load(target + index, mask=mask, other=0.0).to(tl.float32)
    else:
        label = tl.load(target + row, mask=mask, other=-1)
        y = tl.where(label == column, 1.0, 0.0)
        if SCORE:
            y *= tl.load(score + row, mask=mask, other=0.0).to(tl.float32)
    gamma = _of_class(gammas, column, mask, gamma, GAMMAS)
    positive = _of_class(positives, column, mask, 1.0, POSITIVES)
    alpha = _of_class(alphas, column, mask, 1.0, ALPHAS)
    scale = _of_class(scales, column, mask, 1.0, SCALES)
    value, slope = _value_and_slope(z, y, gamma, positive, alpha, scale, poly, GAMMA, BALANCED)
    result = slope * tl.load(grad_output).to(tl.float32) if BACKWARD else value
    if WEIGHT == 1:
        result *= tl.load(weight + row, mask=mask, other=0.0).to(tl.float32)
    elif WEIGHT == 2:
        result *= tl.load(weight + index, mask=mask, other=0.0).to(tl.float32)
    if BACKWARD:
        tl.store(out + index, result, mask=mask)
    else:
        tl.store(out + tl.program_id(0), tl.sum(tl.where(mask, result, 0.0), 0))


def _launch(out, grad_output, logits, target, score, weight, terms) -> None:
    gamma = terms.gamma
    plain_gamma = not isinstance(gamma, Tensor)
    _kernel[(triton.cdiv(logits.numel(), BLOCK),)](
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
        BACKWARD=grad_output is not None,
        BLOCK=BLOCK,
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
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad_output):
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
    # The kernels count elements one after another.
    contiguous = (None if x is None else x.contiguous() for x in (logits, target, score, weight))
    return _TritonFocalSum.apply(*contiguous, terms)
