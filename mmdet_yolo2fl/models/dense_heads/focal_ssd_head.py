"""SSD with a loss that the config chooses, in place of hard negative mining."""

from mmdet.models.dense_heads import SSDHead
from mmdet.registry import MODELS
from mmengine.model import bias_init_with_prob
from torch import Tensor


@MODELS.register_module()
class FocalSSDHead(SSDHead):
    """MMDetection's ``SSDHead`` with ``loss_cls`` and ``loss_bbox`` from the config.

    SSD takes the cross entropy of a softmax, of the positives and of three times as many of the
    hardest negatives. Here every anchor counts, and every class has a sigmoid of its own without
    one for the background, so that focal loss can do what the mining did.

    Args:
        loss_cls (dict): A loss on logits with ``use_sigmoid=True``. Defaults to
            :class:`BalancedFocalLoss`.
        loss_bbox (dict): Of the encoded boxes, or, with ``reg_decoded_bbox=True``, of boxes in
            pixels (``GIoULoss`` and the like). Defaults to ``SmoothL1Loss``, SSD's own.
        prior_prob (float): The bias of the class scores starts so that their sigmoid is this
            (Focal Loss, section 4.1). Defaults to 0.01.
        **kwargs: As of ``SSDHead``. Of ``train_cfg``, ``neg_pos_ratio`` and ``smoothl1_beta`` are
            without effect.

    Raises:
        ValueError: If ``loss_cls`` is a softmax loss, or ``prior_prob`` not in (0, 1).
    """

    def __init__(
        self,
        *args,
        loss_cls: dict = dict(type='BalancedFocalLoss', use_sigmoid=True),
        loss_bbox: dict = dict(type='SmoothL1Loss', beta=1.0),
        prior_prob: float = 0.01,
        **kwargs,
    ) -> None:
        super().__init__(*args, **kwargs)
        if not 0 < prior_prob < 1:
            raise ValueError(f'FocalSSDHead: prior_prob must lie in (0, 1), got {prior_prob}')
        self.prior_prob = prior_prob
        self.use_sigmoid_cls = True
        self.loss_cls = MODELS.build(loss_cls)
        self.loss_bbox = MODELS.build(loss_bbox)
        if not getattr(self.loss_cls, 'use_sigmoid', False):
            raise ValueError('FocalSSDHead: loss_cls must be a sigmoid loss: set use_sigmoid=True')

    def _init_layers(self) -> None:
        # The parent's constructor has added a background class.
        self.cls_out_channels = self.num_classes
        super()._init_layers()

    def init_weights(self) -> None:
        """As the parent's; then the bias of the scores by ``prior_prob``."""
        super().init_weights()
        for layers in self.cls_convs:
            layers[-1].bias.data.fill_(bias_init_with_prob(self.prior_prob))

    def loss_by_feat_single(
        self,
        cls_score: Tensor,
        bbox_pred: Tensor,
        anchor: Tensor,
        labels: Tensor,
        label_weights: Tensor,
        bbox_targets: Tensor,
        bbox_weights: Tensor,
        avg_factor: int,
    ) -> tuple[Tensor, Tensor]:
        """Losses of one image.

        Args:
            cls_score (Tensor): ``(A, C)`` logits of all anchors.
            bbox_pred (Tensor): ``(A, 4)`` deltas.
            anchor (Tensor): ``(A, 4)`` corners in pixels.
            labels (Tensor): ``(A,)`` in 0..C, C being the background.
            label_weights (Tensor): ``(A,)``.
            bbox_targets (Tensor): ``(A, 4)``.
            bbox_weights (Tensor): ``(A, 4)``.
            avg_factor (int): Positives of the batch.

        Returns:
            tuple[Tensor, Tensor]: Loss of the classes ``(1,)`` and of the boxes.
        """
        loss_cls = self.loss_cls(cls_score, labels, label_weights, avg_factor=avg_factor)
        if self.reg_decoded_bbox:
            bbox_pred = self.bbox_coder.decode(anchor, bbox_pred)
        loss_bbox = self.loss_bbox(bbox_pred, bbox_targets, bbox_weights, avg_factor=avg_factor)
        return loss_cls[None], loss_bbox
