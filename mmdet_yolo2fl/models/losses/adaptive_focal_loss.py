"""Focal losses that set their own gamma from what training shows them."""

import logging

import torch
from mmdet.registry import MODELS
from mmengine.dist import all_reduce_params, get_world_size
from mmengine.logging import print_log
from torch import Tensor

from .balanced_focal_loss import BalancedFocalLoss, dense_target
from .focal_sum import FocalTerms, class_gradients


class AdaptiveFocalLoss(BalancedFocalLoss):
    """Looks at every training batch before its loss is taken.

    Without asking the other ranks: a head may leave out the call on a rank that has no object
    (YOLOX's classes, DINO's denoising), and the others would wait for it. ``AdaptiveLossSyncHook``
    brings the ranks together after each iteration.
    """

    # The buffers that training changes.
    state: tuple[str, ...]

    def __init__(self, *args, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        self.is_shared = False
        if self.activation != 'sigmoid':
            raise ValueError(
                f'{type(self).__name__}: works on the logits of a sigmoid, got '
                f'activation={self.activation!r}; a head that gives softmaxes or probabilities '
                'takes BalancedFocalLoss'
            )

    def forward(self, pred, target, weight=None, avg_factor=None, reduction_override=None):
        """As :meth:`BalancedFocalLoss.forward`; in training mode the state goes on.

        Not where single elements are asked for (``reduction_override='none'``): by such calls
        heads rank candidates (PAA), or samplers hard examples (OHEM).
        """
        if self.training and torch.is_grad_enabled() and reduction_override != 'none':
            if not self.is_shared and get_world_size() > 1:
                self.is_shared = True  # said once
                print_log(
                    f'{type(self).__name__}: each process goes by its own images. '
                    "dict(type='AdaptiveLossSyncHook') among the custom_hooks brings them together",
                    'current',
                    logging.WARNING,
                )
            with torch.no_grad():
                self._leave_half_precision()
                self._observe(
                    pred, target, weight, avg_factor, reduction_override or self.reduction
                )
        return super().forward(pred, target, weight, avg_factor, reduction_override)

    @torch.no_grad()
    def synchronize(self) -> None:
        """Take the mean of the states of all ranks, which must all call it."""
        self.is_shared = True
        self._leave_half_precision()
        all_reduce_params([getattr(self, name) for name in self.state], op='mean')

    def _leave_half_precision(self) -> None:
        """DeepSpeed and FSDP can turn buffers into it, where sums soon grow no more."""
        for name in self.state:
            value = getattr(self, name)
            if value.dtype in (torch.float16, torch.bfloat16):
                setattr(self, name, value.float())


@MODELS.register_module()
class AutomatedFocalLoss(AdaptiveFocalLoss):
    """Focal loss whose gamma follows the progress of training (arXiv:1904.09048).

    ``gamma = -log(p)``, where p is the running mean of the probability that the network gives to
    the right answer: much focusing at first, nearly cross entropy in the end.

    In a dense detector nearly all elements are easy negatives and their mean probability is
    close to 1 from the start, which would leave cross entropy; by default the mean is therefore
    taken over the objects.

    It is a mean over elements, the running sum of their probabilities over that of their number, so
    that a level of a pyramid counts by its objects. A head that calls the loss for every level
    updates it at every call; with five levels a momentum of 0.99 looks back as far as 0.95
    elsewhere. Every call is differentiated with the gamma that it had.

    Args:
        over (str): Elements that the mean is taken over: 'positives' or 'all'. Defaults to
            'positives'.
        momentum (float): Share of the old sums at each update, in [0, 1) (the paper's
            smoothing). Defaults to 0.95.
        max_gamma (float): Upper limit of gamma. Defaults to 5.0.
        gamma (float): Where it starts, until objects were seen. Defaults to 2.0.
        **kwargs: As of :class:`BalancedFocalLoss`, with 'sigmoid' as activation.

    Every rank goes by its own batch; :class:`AdaptiveLossSyncHook` brings them together.

    Attributes:
        gamma (Tensor): 0-d buffer, saved.
        running_sums (Tensor): ``(2,)`` buffer, saved: of the probabilities, and of the elements.

    Raises:
        ValueError: If an argument is out of its range.
    """

    state = ('running_sums',)

    def __init__(
        self,
        use_sigmoid: bool | None = True,
        gamma: float = 2.0,
        over: str = 'positives',
        momentum: float = 0.95,
        max_gamma: float = 5.0,
        **kwargs,
    ) -> None:
        super().__init__(use_sigmoid=use_sigmoid, gamma=gamma, **kwargs)
        if over not in ('positives', 'all'):
            raise ValueError(f"AutomatedFocalLoss: over must be 'positives' or 'all', got {over!r}")
        if not 0 <= momentum < 1:
            raise ValueError(f'AutomatedFocalLoss: momentum must lie in [0, 1), got {momentum}')
        if not max_gamma > 0:
            raise ValueError(f'AutomatedFocalLoss: max_gamma must be positive, got {max_gamma}')
        self.over = over
        self.momentum = momentum
        self.max_gamma = max_gamma
        del self.gamma
        self.register_buffer('gamma', torch.tensor(float(gamma)))
        self.register_buffer('running_sums', torch.zeros(2))

    @property
    def prob_correct(self) -> Tensor:
        """The running mean, 0-d in 0..1; NaN before the first object."""
        return self.running_sums[0] / self.running_sums[1]

    @property
    def terms(self) -> FocalTerms:
        """With a gamma that the next call does not change under this one's backward pass."""
        return super().terms._replace(gamma=self.gamma.clone())

    def synchronize(self) -> None:
        """As of every adaptive loss; and gamma follows."""
        super().synchronize()
        self._follow()

    def _follow(self) -> None:
        gamma = (-self.prob_correct.log()).clamp(0, self.max_gamma)
        # Until the first object it stays where it starts.
        self.gamma.copy_(torch.where(self.running_sums[1] > 0, gamma, self.gamma))

    def _observe(self, pred, target, weight, avg_factor, reduction) -> None:
        rows, labels, _, score, weight = self._rows(pred, target, weight)
        if self.over == 'all' or labels.shape == rows.shape:
            labels = dense_target(rows, labels if score is None else (labels, score)).float()
            counted = labels if self.over == 'positives' else torch.ones_like(labels)
            prob = rows.float().sigmoid()
            correct = prob * labels + (1 - prob) * (1 - labels)
            if self.over == 'positives':
                correct = prob
            counted = counted if weight is None else counted * weight
        else:
            # Hard labels: only the logit at the truth of each row matters.
            is_object = labels < rows.shape[1]
            at_truth = rows.gather(1, labels.clamp(max=rows.shape[1] - 1)[:, None])[:, 0]
            correct = at_truth.float().sigmoid()
            counted = is_object.float() if score is None else is_object * score.float()
            if weight is not None:
                index = labels.clamp(max=weight.shape[1] - 1)[:, None]
                counted = counted * weight.gather(1, index)[:, 0]
        sums = torch.stack([(correct * counted).sum(), counted.sum()])
        # Without an object in the whole batch, or with a prediction that is not finite,
        # everything stays as it is.
        seen = (sums[1] > 0) & sums.isfinite().all()
        mixed = self.momentum * self.running_sums + (1 - self.momentum) * sums
        self.running_sums.copy_(torch.where(seen, mixed, self.running_sums))
        self._follow()


@MODELS.register_module()
class EqualizedFocalLoss(AdaptiveFocalLoss):
    """Focal loss with a gamma and a weight for each class (arXiv:2201.02593, section 3).

    ``gamma_j = gamma + scale_factor (1 - g_j)``, and the loss of class j is weighted by
    ``gamma_j / gamma``. g_j in 0..1 is the accumulated ratio of its positive to its negative
    gradients: a class that its negatives overwhelm, a rare one, is focused more, and weighs
    more, than one in balance.

    The gradients are those by the logits, computed from their formula in the forward pass, after
    weighting and averaging. A head that calls the loss for several levels updates the ratio at
    each call. Every rank goes by its own batch; :class:`AdaptiveLossSyncHook` brings them together.

    Args:
        num_classes (int): C.
        gamma (float): Of a class in balance, > 0. Defaults to 2.0.
        scale_factor (float): How much gamma can grow, >= 0; the paper's s. Defaults to 8.0, its
            value for the 1203 classes of LVIS.
        **kwargs: As of :class:`BalancedFocalLoss`, with 'sigmoid' as activation and without
            ``label_smoothing``.

    Attributes:
        positive_gradient, negative_gradient (Tensor): ``(C,)`` buffers, saved.

    Raises:
        ValueError: If an argument is out of its range, or predictions have other than C classes.
    """

    state = ('positive_gradient', 'negative_gradient')

    def __init__(
        self,
        num_classes: int,
        use_sigmoid: bool | None = True,
        gamma: float = 2.0,
        scale_factor: float = 8.0,
        **kwargs,
    ) -> None:
        super().__init__(use_sigmoid=use_sigmoid, gamma=gamma, **kwargs)
        if num_classes < 1:
            raise ValueError(f'EqualizedFocalLoss: num_classes must be >= 1, got {num_classes}')
        if gamma <= 0:
            raise ValueError(f'EqualizedFocalLoss: gamma must be positive, got {gamma}')
        if not 0 <= scale_factor < float('inf'):
            raise ValueError(
                f'EqualizedFocalLoss: scale_factor must be finite and >= 0, got {scale_factor}'
            )
        if self.label_smoothing:
            raise ValueError(
                'EqualizedFocalLoss: label_smoothing must be 0, the ratio is of objects and '
                f'background as they are, got {self.label_smoothing}'
            )
        # By another name: NumClassCheckHook compares a `num_classes` with the data set's, and an
        # objectness has one.
        self.num_columns = num_classes
        self.scale_factor = scale_factor
        self.register_buffer('positive_gradient', torch.zeros(num_classes))
        self.register_buffer('negative_gradient', torch.zeros(num_classes))

    @property
    def gradient_ratio(self) -> Tensor:
        """g, ``(C,)`` in 0..1; 1 for a class without any gradient yet."""
        ratio = self.positive_gradient / self.negative_gradient
        return torch.where(self.negative_gradient > 0, ratio, 1.0).clamp(0, 1)

    @property
    def gamma(self) -> Tensor:
        """The gamma of each class, ``(C,)``."""
        return self.base_gamma + self.scale_factor * (1 - self.gradient_ratio)

    @gamma.setter
    def gamma(self, value) -> None:  # the parent's constructor sets it
        self.base_gamma = value

    @property
    def terms(self) -> FocalTerms:
        """With the weight of each class as the scale of both its terms."""
        return super().terms._replace(scale=self.gamma / self.base_gamma)

    def forward(self, pred, target, weight=None, avg_factor=None, reduction_override=None):
        """As :meth:`BalancedFocalLoss.forward`; in training mode the ratios go on."""
        if pred.shape[-1] != self.num_columns:
            raise ValueError(
                f'EqualizedFocalLoss: num_classes={self.num_columns}, but the prediction of shape '
                f'{tuple(pred.shape)} has {pred.shape[-1]}'
            )
        return super().forward(pred, target, weight, avg_factor, reduction_override)

    def _observe(self, pred, target, weight, avg_factor, reduction) -> None:
        gradients = torch.stack(class_gradients(*self._rows(pred, target, weight)))
        if reduction == 'mean':
            gradients = gradients / (pred.numel() if avg_factor is None else avg_factor)
        # One prediction that is not finite must not stay for good.
        gradients = gradients.where(gradients.isfinite(), 0)
        self.positive_gradient += gradients[0]
        self.negative_gradient += gradients[1]
