"""Cross entropy, balanced cross entropy and focal loss as one formula."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from mmdet.models.losses.utils import weight_reduce_loss
from mmdet.registry import MODELS
from torch import Tensor, nn

from .focal_sum import FocalTerms, focal_sum, triton_works

ACTIVATIONS = ('sigmoid', 'softmax', 'none')
ALPHA_MODES = ('balanced', 'uniform')
# What MMDetection's weight_reduce_loss adds to avg_factor.
EPSILON = torch.finfo(torch.float32).eps
# By how much rounding may carry a probability beyond 0 or 1, and a label: the IoU of boxes in half
# precision that are the same (in bfloat16 1.004 has been seen).
ROUNDING = 1e-6
LABEL_ROUNDING = 2**-6


def balanced_focal_loss(
    pred: Tensor,
    target: Tensor,
    gamma: float = 2.0,
    alpha: float | Tensor | None = 0.25,
    activation: str = 'sigmoid',
    alpha_mode: str = 'balanced',
    class_weight: Tensor | None = None,
    poly_epsilon: float = 0.0,
) -> Tensor:
    """Focal loss of every element, in float32 or wider (arXiv:1708.02002, equations 1 to 5).

    ``-at * (1 - pt)^gamma * log(pt)``. ``gamma=0`` leaves balanced cross entropy, and
    ``alpha=None`` on top of it plain cross entropy. Values and gradients are finite for every
    finite prediction.

    Args:
        pred (Tensor): ``(..., C)`` logits, or probabilities in 0..1 for activation 'none'.
        target (Tensor): Of the same shape: one-hot, or soft labels in 0..1. For a soft label
            y, ``pt = p*y + (1-p)*(1-y)``, as in MMDetection's ``FocalLoss``.
        gamma (float | Tensor): Focusing parameter, >= 0; a tensor holds one for each class.
        alpha (float | Tensor | None): Weight of an object; a tensor holds one for each class.
        activation (str): 'sigmoid': every class on its own. 'softmax': one of C classes.
            'none': as 'sigmoid', but ``pred`` holds probabilities already.
        alpha_mode (str): 'balanced' weights negatives by ``1 - alpha`` (RetinaNet); 'uniform'
            weights both by ``alpha``. With softmax there are no negative elements: every row
            is weighted by the alpha of its class, in both modes.
        class_weight (Tensor, optional): ``(C,)``, multiplies the positive term of each class.
        poly_epsilon (float): Weight of the further term ``(1 - pt)^(gamma + 1)``
            (arXiv:2204.12511, poly-1 of focal loss).

    Returns:
        Tensor: The shape of ``pred``; with 'softmax' without its last dimension.
    """
    # The steepest slope that the gradient's own type can hold, and the square of it float32.
    limit = max(1e-12, torch.finfo(pred.dtype).tiny)
    pred, target = _at_least_float32(pred), target.detach()
    target = target.to(pred.dtype)
    positive = target if class_weight is None else target * class_weight
    if activation == 'softmax':
        log_prob = pred.log_softmax(-1)
        # 1 - pt, without the cancellation near pt = 1.
        miss = -log_prob.expm1()
        loss = -positive * log_prob
        weight = 1.0 if alpha is None else alpha
    else:
        if activation == 'sigmoid':
            prob, complement = pred.sigmoid(), (-pred).sigmoid()
            loss = -positive * F.logsigmoid(pred) - (1 - target) * F.logsigmoid(-pred)
        else:
            prob, complement = pred, 1 - pred
            loss = -positive * _finite_log(prob, limit)
            loss = loss - (1 - target) * _finite_log(complement, limit)
        miss = prob * (1 - target) + complement * target
        weight = 1.0
        if alpha is not None:
            weight = (
                alpha if alpha_mode == 'uniform' else alpha * target + (1 - alpha) * (1 - target)
            )
    if poly_epsilon:
        share = positive if activation == 'softmax' else positive + 1 - target
        loss = loss + poly_epsilon * share * miss
    if isinstance(gamma, Tensor) or gamma > 0:
        # A power below one has an infinite slope at zero; the floor lies where the loss itself
        # has long vanished.
        loss = loss * miss.clamp(min=torch.finfo(pred.dtype).tiny).pow(gamma)
    loss = loss * weight
    return loss.sum(-1) if activation == 'softmax' else loss


def _at_least_float32(x: Tensor) -> Tensor:
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


def _finite_log(prob: Tensor, limit: float) -> Tensor:
    """The logarithm, of 0 that of the smallest number; its slope ends at that of ``limit``.

    So a probability of 0 that should be 1 still gets a gradient, and one whose square is finite.
    """
    exact = prob.detach().clamp(min=torch.finfo(prob.dtype).tiny).log()
    straight = exact + (prob - prob.detach()) / limit
    return torch.where(prob < limit, straight, prob.clamp(min=limit).log())


@MODELS.register_module()
class BalancedFocalLoss(nn.Module):
    """Focal loss with a weight for each class, in place of MMDetection's ``FocalLoss``.

    Cross entropy (``gamma=0, alpha=None``), balanced cross entropy (``gamma=0``) and focal loss
    (arXiv:1708.02002, section 3) in one formula; see :func:`balanced_focal_loss`.

    Args:
        use_sigmoid (bool, optional): MMDetection's name for the activation: True is 'sigmoid',
            False is 'softmax'. Heads such as ``AnchorHead`` read it from the config, so give it
            there: without it they add a background class, which this loss takes for another
            object. Defaults to None: what ``activation`` says.
        gamma (float): Focusing parameter, >= 0. Defaults to 2.0.
        alpha (float | Sequence[float] | None): Weight of an object against the background, for
            all classes or one for each. Defaults to 0.25.
        alpha_mode (str): 'balanced' (``1 - alpha`` for negatives; alpha in 0..1) or 'uniform'
            (alpha for both; >= 0). Defaults to 'balanced'.
        activation (str, optional): 'sigmoid', 'softmax', or 'none' for predictions that are
            probabilities. Defaults to None: 'sigmoid', unless ``use_sigmoid`` says otherwise.
        class_weight (Sequence[float], optional): One weight >= 0 for each class, on its
            positive term, as in MMDetection's ``CrossEntropyLoss``. May exceed 1.
        label_smoothing (float): Labels are drawn towards the middle by this much, 0..1: y becomes
            ``(1 - s) y + s / 2``; with softmax ``(1 - s) y + s / C``. Defaults to 0.0.
        poly_epsilon (float): Adds ``epsilon (1 - pt)^(gamma + 1)``, weighted as the rest: poly-1
            of focal loss (arXiv:2204.12511, section 4). Defaults to 0.0.
        activated (bool): MMDetection's name for the activation 'none', as ``TOODHead`` needs it.
            Defaults to False.
        reduction (str): 'none', 'mean' or 'sum'. Defaults to 'mean'.
        loss_weight (float): Multiplies the result. Defaults to 1.0.

    Raises:
        ValueError: If an argument is out of its range, or two contradict each other.
    """

    def __init__(
        self,
        use_sigmoid: bool | None = None,
        gamma: float = 2.0,
        alpha: float | Sequence[float] | None = 0.25,
        alpha_mode: str = 'balanced',
        activation: str | None = None,
        class_weight: Sequence[float] | None = None,
        reduction: str = 'mean',
        loss_weight: float = 1.0,
        label_smoothing: float = 0.0,
        poly_epsilon: float = 0.0,
        activated: bool = False,
    ) -> None:
        super().__init__()
        if not 0 <= label_smoothing <= 1:
            raise ValueError(
                f'BalancedFocalLoss: label_smoothing must lie in 0..1, got {label_smoothing}'
            )
        # Below -1 a better prediction would cost more (section 3 of the paper).
        if not -1 <= poly_epsilon < float('inf'):
            raise ValueError(
                f'BalancedFocalLoss: poly_epsilon must be finite and >= -1, got {poly_epsilon}'
            )
        if activation is None:
            activation = 'softmax' if use_sigmoid is False else 'none' if activated else 'sigmoid'
        _check_choice('activation', activation, ACTIVATIONS)
        _check_choice('alpha_mode', alpha_mode, ALPHA_MODES)
        _check_choice('reduction', reduction, ('none', 'mean', 'sum'))
        if use_sigmoid is not None and use_sigmoid != (activation != 'softmax'):
            raise ValueError(
                f'BalancedFocalLoss: use_sigmoid={use_sigmoid} contradicts '
                f'activation={activation!r}; give one of them'
            )
        if activated and activation != 'none':
            raise ValueError(
                f'BalancedFocalLoss: activated=True contradicts activation={activation!r}'
            )
        if not isinstance(gamma, (int, float)) or not 0 <= gamma < float('inf'):
            raise ValueError(
                f'BalancedFocalLoss: gamma must be a finite number >= 0, got {gamma!r}'
            )
        if not isinstance(loss_weight, (int, float)):
            raise ValueError(
                f'BalancedFocalLoss: loss_weight must be one number, got {loss_weight!r} (one for '
                'each class is a class_weight)'
            )
        largest = 1.0 if alpha_mode == 'balanced' else float('inf')
        self.use_sigmoid = activation != 'softmax'
        self.activated = activation == 'none'
        self.activation = activation
        self.gamma = gamma
        self.alpha_mode = alpha_mode
        self.reduction = reduction
        self.loss_weight = loss_weight
        self.label_smoothing = label_smoothing
        self.poly_epsilon = poly_epsilon
        hint = ' (a weight above 1 is a class_weight)' if alpha_mode == 'balanced' else ''
        # Buffers follow the module to its device; not saved, since the config gives them.
        self.register_buffer('alpha', _weights('alpha', alpha, largest, hint), persistent=False)
        self.register_buffer(
            'class_weight', _weights('class_weight', class_weight, float('inf')), persistent=False
        )

    def forward(
        self,
        pred: Tensor,
        target: Tensor | tuple[Tensor, Tensor],
        weight: Tensor | None = None,
        avg_factor: float | Tensor | None = None,
        reduction_override: str | None = None,
    ) -> Tensor:
        """Compute the loss.

        Args:
            pred (Tensor): ``(..., C)`` logits (probabilities for activation 'none').
            target (Tensor | tuple[Tensor, Tensor]): Class indices ``(...)`` in 0..C, where C is
                the background; or one-hot or soft labels of the shape of ``pred``; or a tuple
                (indices, scores), scores in 0..1 being the soft label at the index.
            weight (Tensor, optional): Of the shape of the loss, or without its last dimension,
                or anything that broadcasts to it.
            avg_factor (float | Tensor, optional): Divides the sum when the reduction is 'mean'.
            reduction_override (str, optional): Replaces ``reduction`` in this call.

        Returns:
            Tensor: A scalar; for the reduction 'none' elements as in
            :func:`balanced_focal_loss`.

        Raises:
            ValueError: If shapes do not fit, a label lies outside 0..C (with softmax 0..C-1),
                or soft labels, scores or probabilities outside 0..1, or a probability is NaN. On
                a GPU looking at values would wait for it: there the message comes as a failed
                assertion of the device, and NaN passes with whatever is beside it.
        """
        if self.activation == 'none':
            _check_unit_range('pred', pred, 'probabilities')
        if reduction_override is not None:
            _check_choice('reduction_override', reduction_override, ('none', 'mean', 'sum'))
        for name, value in (('alpha', self.alpha), ('class_weight', self.class_weight)):
            if value is not None and value.numel() not in (1, pred.shape[-1]):
                raise ValueError(
                    f'BalancedFocalLoss: {name} has {value.numel()} values, but the prediction '
                    f'of shape {tuple(pred.shape)} has {pred.shape[-1]} classes. If that is one '
                    'more than there are, the last is the background: a dense head leaves it out '
                    'with use_sigmoid=True in the config; a second stage (BBoxHead) keeps it, '
                    'there take use_sigmoid=False and give it a value too'
                )
        if isinstance(avg_factor, (int, float)) and not avg_factor >= 0:
            raise ValueError(f'BalancedFocalLoss: avg_factor must be >= 0, got {avg_factor}')
        background = self.activation != 'softmax'
        if self.label_smoothing:
            target = self._smooth(pred, dense_target(pred, target, background))
        reduction = reduction_override or self.reduction
        # weight_reduce_loss refuses a sum with an avg_factor.
        sums = reduction == 'mean' or (reduction == 'sum' and avg_factor is None)
        if sums and self._sums_in_blocks(pred, weight):
            total = focal_sum(*self._rows(pred, target, weight))
            if reduction == 'mean':
                # As weight_reduce_loss divides.
                total = total / (pred.numel() if avg_factor is None else avg_factor + EPSILON)
            return self.loss_weight * total
        terms = self.terms
        loss = balanced_focal_loss(
            pred,
            dense_target(pred, target, background),
            terms.gamma,
            terms.alpha,
            self.activation,
            self.alpha_mode,
            terms.positive,
            terms.poly,
        )
        if terms.scale is not None:
            loss = loss * terms.scale
        if weight is not None:
            weight = fit_weight(weight, loss)
        return self.loss_weight * weight_reduce_loss(loss, weight, reduction, avg_factor)

    @property
    def terms(self) -> FocalTerms:
        """Gamma and the weights, as :func:`focal_sum` takes them."""
        balanced = self.alpha_mode == 'balanced'
        return FocalTerms(
            self.gamma, self.class_weight, self.alpha, balanced, poly=self.poly_epsilon
        )

    def _smooth(self, pred: Tensor, target: Tensor) -> Tensor:
        share = 1 / pred.shape[-1] if self.activation == 'softmax' else 0.5
        target = target.to(torch.float32)
        return target * (1 - self.label_smoothing) + self.label_smoothing * share

    def _sums_in_blocks(self, pred: Tensor, weight: Tensor | None) -> bool:
        """Whether :func:`focal_sum` serves: no second derivative, none by the weights."""
        return (
            self.activation == 'sigmoid'
            and not _is_compiling()  # torch.compile fuses the plain formula itself
            and pred.dtype in (torch.float32, torch.float16, torch.bfloat16)
            and pred.numel() > 0
            and not (weight is not None and weight.requires_grad)
            and (pred.device.type == 'cpu' or (pred.is_cuda and triton_works(pred.device)))
        )

    def _rows(self, pred: Tensor, target: Tensor | tuple, weight: Tensor | None) -> tuple:
        """The arguments of :func:`focal_sum`: everything in rows of C classes."""
        target, score = check_target(pred, target)
        num_classes = pred.shape[-1]
        target = target.reshape(-1, *target.shape[pred.dim() - 1 :])
        if weight is not None:
            weight = fit_weight(weight, pred)
            # One weight for a row, as heads expand them.
            if weight.shape[-1] != 1 and weight.stride(-1) == 0:
                weight = weight[..., :1]
            weight = weight.reshape(-1, weight.shape[-1])
        score = None if score is None else score.reshape(-1)
        return pred.reshape(-1, num_classes), target, self.terms, score, weight

    def extra_repr(self) -> str:
        alpha = None if self.alpha is None else self.alpha.tolist()
        return (
            f'gamma={self.gamma}, alpha={alpha}, alpha_mode={self.alpha_mode}, '
            f'activation={self.activation}, loss_weight={self.loss_weight}'
        )


# PyTorch below 2.3 cannot tell.
_is_compiling = getattr(getattr(torch, 'compiler', None), 'is_compiling', lambda: False)


def dense_target(
    pred: Tensor, target: Tensor | tuple[Tensor, Tensor], background: bool = True
) -> Tensor:
    """Class indices, (indices, scores) or dense labels as labels of the shape of ``pred``.

    Args:
        pred (Tensor): ``(..., C)``.
        target (Tensor | tuple[Tensor, Tensor]): As of :meth:`BalancedFocalLoss.forward`.
        background (bool): Whether index C is the background, or an error. Defaults to True.

    Raises:
        ValueError: As :func:`check_target`.
    """
    target, score = check_target(pred, target, background)
    if target.shape == pred.shape:
        return target
    dense = target[..., None] == torch.arange(pred.shape[-1], device=target.device)
    return dense if score is None else dense * score[..., None]


def check_target(
    pred: Tensor, target: Tensor | tuple[Tensor, Tensor], background: bool = True
) -> tuple[Tensor, Tensor | None]:
    """A target as labels, or as int64 indices, and the scores of the indices if there are any.

    Raises:
        ValueError: If the shapes do not fit, an index lies outside 0..C (0..C-1 without a
            background), or a label or score outside 0..1.
    """
    score = None
    if isinstance(target, (tuple, list)):
        target, score = target
        if target.shape != pred.shape[:-1] or score.shape != target.shape:
            raise ValueError(
                f'BalancedFocalLoss: for a prediction of shape {tuple(pred.shape)} a target of '
                f'(indices, scores) must have the shape {tuple(pred.shape[:-1])} each, got '
                f'{tuple(target.shape)} and {tuple(score.shape)}'
            )
        score = _labels('scores of the target', score, 'soft labels')
    if target.shape == pred.shape:
        if target.dtype != torch.bool:
            target = _labels('target', target, 'labels')
        return target, None
    if target.shape != pred.shape[:-1] or target.is_floating_point():
        raise ValueError(
            f'BalancedFocalLoss: for a prediction of shape {tuple(pred.shape)} the target must '
            f'be integer indices of shape {tuple(pred.shape[:-1])} or labels of the same shape '
            f'as the prediction, got {target.dtype} of shape {tuple(target.shape)}'
        )
    check_labels(target, pred.shape[-1] + background, 'BalancedFocalLoss')
    return target.long(), score


def _labels(name: str, value: Tensor, what: str) -> Tensor:
    """Soft labels, in 0..1 but for rounding, without it."""
    _check_unit_range(name, value, what, LABEL_ROUNDING)
    return value.clamp(0, 1)


def _check_unit_range(name: str, value: Tensor, what: str, rounding: float = ROUNDING) -> None:
    """Refuse values outside 0..1; on a GPU as :func:`check_labels` does.

    NaN passes as a label, as of a network that diverges, whose IoUs are labels: a step of mixed
    precision is only skipped, and `NonFiniteLossHook` tells more.
    """
    if value.numel() == 0:
        return
    value = value.detach()
    low, high = value.aminmax()
    if not value.is_cuda and low.isnan():  # which hides what else there is
        if name == 'pred':
            raise ValueError('BalancedFocalLoss: pred must hold probabilities in 0..1, got NaN')
        known = value[~value.isnan()]
        if known.numel() == 0:
            return
        low, high = known.aminmax()
    message = f'BalancedFocalLoss: {name} must hold {what} in 0..1'
    outside = (low < -rounding) | (high > 1 + rounding)
    if value.is_cuda:
        torch._assert_async(~outside, message)
    elif outside:
        raise ValueError(
            f'{message}, got values from {low:.6g} to {high:.6g}'
            + (": with activation='sigmoid' it takes logits" if name == 'pred' else '')
        )


def check_labels(labels: Tensor, end: int, where: str) -> None:
    """Refuse labels outside 0..end-1.

    Raises:
        ValueError: On the CPU. On a GPU, looking would wait for it: there a failed assertion
            surfaces at the next synchronization.
    """
    if labels.numel() == 0:
        return
    valid = ((labels >= 0) & (labels < end)).all()
    message = f'{where}: labels must lie in 0..{end - 1}'
    if labels.is_cuda:
        torch._assert_async(valid, message)
    elif not valid:
        raise ValueError(
            f'{message}, got {labels.min()}..{labels.max()}; '
            "check num_classes in the model against the data set's metainfo classes"
        )


def fit_weight(weight: Tensor, loss: Tensor) -> Tensor:
    """Weights as MMDetection's heads pass them: by element, by row, flattened, broadcast."""
    if weight.shape == loss.shape:
        return weight
    if weight.shape == loss.shape[:-1]:
        return weight[..., None]
    if weight.numel() == loss.numel():
        return weight.reshape(loss.shape)
    try:
        return weight.expand_as(loss)
    except RuntimeError as error:
        raise ValueError(
            f'BalancedFocalLoss: weight of shape {tuple(weight.shape)} does not fit a loss of '
            f'shape {tuple(loss.shape)}'
        ) from error


def _weights(name: str, value, largest: float, hint: str = '') -> Tensor | None:
    if value is None:
        return None
    try:
        values = torch.as_tensor(value, dtype=torch.float32)
        valid = values.dim() < 2 and values.numel() > 0 and values.isfinite().all()
        valid = valid and ((values >= 0) & (values <= largest)).all()
    except (TypeError, ValueError):
        valid = False
    if not valid:
        limits = f'in 0..{largest:g}' if largest < float('inf') else '>= 0'
        raise ValueError(
            f'BalancedFocalLoss: {name} must be a finite number or a list of such numbers '
            f'{limits}, got {value!r}{hint}'
        )
    # One for all, however it is written.
    return values.reshape(()) if values.numel() == 1 else values


def _check_choice(name: str, value: str, choices: Sequence[str]) -> None:
    if value not in choices:
        raise ValueError(f'BalancedFocalLoss: {name} must be one of {choices}, got {value!r}')
