"""The detection head of YOLOv2, with its losses as parts of the config."""

from collections.abc import Sequence

import torch
from mmcv.cnn import ConvModule
from mmdet.models.dense_heads.base_dense_head import BaseDenseHead
from mmdet.models.losses import QualityFocalLoss
from mmdet.registry import MODELS, TASK_UTILS
from mmdet.structures.bbox import get_box_tensor
from mmdet.utils import reduce_mean
from mmengine.config import ConfigDict
from mmengine.dist import get_world_size
from mmengine.model import bias_init_with_prob
from mmengine.structures import InstanceData
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from ..backbones.darknet import ACT_CFG, NORM_CFG
from ..losses.balanced_focal_loss import check_labels

NORMALIZERS = ('num_pos', 'batch', 'none')
# exp() of more would overflow once squared into an area; trained networks stay below 5.
MAX_LOG_SIZE = 20.0
# Darknet's weight of the pull towards the priors.
PRIOR_WEIGHT = 0.01


@MODELS.register_module()
class YOLOV2Head(BaseDenseHead):
    """YOLOv2's head (YOLO9000, section 2; Darknet's ``[region]`` layer).

    Each of A anchors in each grid cell predicts ``tx, ty, tw, th, to`` and C class logits. The
    losses decide how it classifies:

    - Darknet's way: ``loss_obj`` on the objectness of every slot, ``loss_cls`` a softmax loss on
      the slots that own a truth. Score: objectness times class probability.
    - Focal: the same with :class:`BalancedFocalLoss` as ``loss_obj``, and, if wanted, as
      ``loss_cls``.
    - Joint, as RetinaNet: ``loss_obj=None``. ``loss_cls`` is then a sigmoid loss on every class
      of every slot. The objectness channel stays in the map, unused.

    Losses on logits (those with ``use_sigmoid``, not ``activated``) get logits; all others get
    the activated value: ``MSELoss`` on the objectness compares ``sigmoid(to)``, on the class
    the softmax.

    Args:
        num_classes (int): C.
        in_channels (int): Channels of the feature map.
        feat_channels (int | Sequence[int]): Filters of the 3x3 convolutions before the last one,
            or one number for each of them. Defaults to 1024.
        stacked_convs (int): How many such convolutions. Defaults to 1.
        anchor_generator (dict): Config of :class:`YOLOV2AnchorGenerator`.
        bbox_coder (dict): Config of the box coder. Defaults to MMDetection's
            ``YOLOBBoxCoder``, whose equations are YOLOv2's. Its own ``eps`` of 1e-6 would move
            targets on the borders of cells; 1e-12 only keeps the logarithm finite.
        loss_obj (dict | None): Loss of the objectness; None for the joint way. The default is
            focal loss, weighted as ``configs/`` have it.
        loss_cls (dict): Loss of the class.
        loss_xy (dict | None): Loss of the centre within its cell, in 0..1; on logits if it
            takes them.
        loss_wh (dict | None): Loss of ``tw, th`` against ``log(truth / anchor)``.
        loss_bbox (dict | None): Loss of decoded boxes in pixels, such as ``GIoULoss``; instead
            of ``loss_xy`` and ``loss_wh``, or besides.
        object_scale (float): Weight of objectness at positives (Darknet's option), in the joint
            way of the classes there. Darknet's cfgs have 5. Defaults to 1.0.
        noobject_scale (float): Weight of objectness at negatives. Defaults to 1.0.
        class_scale (float): Weight of the class at matches, but not in the joint way. Defaults
            to 1.0.
        coord_scale (float): Weight of ``loss_xy`` and ``loss_wh`` at matches. Defaults to 1.0.
        coord_prefill (int): For so many training images every slot without a truth is pulled
            towards its own prior (the centre of its cell, the size of its anchor) with weight
            0.01, through ``loss_xy`` and ``loss_wh``. Darknet: 12800. Defaults to 0.
        rescore (bool): The target of objectness at a match (in the joint way: of its class) is
            the IoU of prediction and truth instead of 1. Defaults to False.
        coord_area_weight (bool): Weight ``loss_xy`` and ``loss_wh`` by ``2 - w*h``, with the
            truth's size relative to the input, as Darknet's master. Defaults to True.
        normalizer (str): Every loss is divided by 'num_pos', the matches averaged over ranks
            (at least 1); by 'batch', the number of images; or 'none'. Defaults to 'batch', as
            Darknet; RetinaNet has 'num_pos'.
        prior_prob (float | None): The score bias starts so that its sigmoid is this (Focal
            Loss, section 4.1: 0.01). None leaves it at 0, as Darknet. Defaults to None: of the
            two starts the mean of this one was the higher (docs/results.md).
        conv_cfg, norm_cfg, act_cfg (dict): MMCV's layer configs of the 3x3 convolutions.
        train_cfg (dict, optional): ``assigner``: config of :class:`YOLOV2Assigner`, the default.
        test_cfg (dict, optional): ``score_thr``, ``nms_pre``, ``nms``, ``max_per_img``,
            ``min_bbox_size``, with MMDetection's meaning; scores are final ones (objectness
            times class).
        init_cfg (dict | list, optional): MMEngine's initialization config.

    Attributes:
        seen (Tensor): Buffer, int64: images that training has seen, on all ranks together, with
            the present mini-batch (Darknet's ``seen``). Every rank must have equally many, as
            MMEngine's samplers give. Saved and resumed.

    Raises:
        ValueError: If the losses or options do not fit together.
    """

    def __init__(
        self,
        num_classes: int,
        in_channels: int,
        anchor_generator: dict,
        feat_channels: int | Sequence[int] = 1024,
        stacked_convs: int = 1,
        bbox_coder: dict = dict(type='YOLOBBoxCoder', eps=1e-12),
        loss_obj: dict | None = dict(
            type='BalancedFocalLoss', gamma=2.0, alpha=0.25, loss_weight=4.0
        ),
        loss_cls: dict = dict(type='CrossEntropyLoss'),
        loss_xy: dict | None = dict(type='CrossEntropyLoss', use_sigmoid=True),
        loss_wh: dict | None = dict(type='MSELoss', loss_weight=0.5),
        loss_bbox: dict | None = None,
        object_scale: float = 1.0,
        noobject_scale: float = 1.0,
        class_scale: float = 1.0,
        coord_scale: float = 1.0,
        coord_prefill: int = 0,
        rescore: bool = False,
        coord_area_weight: bool = True,
        normalizer: str = 'batch',
        prior_prob: float | None = None,
        conv_cfg: dict | None = None,
        norm_cfg: dict | None = NORM_CFG,
        act_cfg: dict | None = ACT_CFG,
        train_cfg: dict | None = None,
        test_cfg: dict | None = None,
        init_cfg: dict | list | None = None,
    ) -> None:
        if init_cfg is None:
            init_cfg = dict(
                type='Kaiming',
                layer='Conv2d',
                a=0.1,
                mode='fan_in',
                override=dict(type='Normal', name='conv_pred', std=0.01),
            )
        super().__init__(init_cfg)
        if num_classes < 1:
            raise ValueError(f'YOLOV2Head: num_classes must be at least 1, got {num_classes}')
        if normalizer not in NORMALIZERS:
            raise ValueError(
                f'YOLOV2Head: normalizer must be one of {NORMALIZERS}, got {normalizer!r}'
            )
        if (loss_xy is None) != (loss_wh is None) or (loss_xy is None and loss_bbox is None):
            raise ValueError('YOLOV2Head: give loss_xy and loss_wh, or loss_bbox, or all three')
        if coord_prefill and loss_xy is None:
            raise ValueError('YOLOV2Head: coord_prefill acts through loss_xy and loss_wh')
        if isinstance(feat_channels, int):
            feat_channels = [feat_channels] * stacked_convs
        if len(feat_channels) != stacked_convs:
            raise ValueError(
                f'YOLOV2Head: feat_channels must be one number or {stacked_convs}, '
                f'got {feat_channels}'
            )
        if min([in_channels, *feat_channels]) < 1:
            raise ValueError(
                f'YOLOV2Head: in_channels and feat_channels must be at least 1, got {in_channels} '
                f'and {feat_channels}'
            )
        if prior_prob is not None and not 0 < prior_prob < 1:
            raise ValueError(f'YOLOV2Head: prior_prob must lie in (0, 1), got {prior_prob}')
        self.num_classes = num_classes
        self.object_scale = object_scale
        self.noobject_scale = noobject_scale
        self.class_scale = class_scale
        self.coord_scale = coord_scale
        self.coord_prefill = coord_prefill
        self.register_buffer('seen', torch.zeros((), dtype=torch.int64))
        self.rescore = rescore
        self.coord_area_weight = coord_area_weight
        self.normalizer = normalizer
        self.prior_prob = prior_prob
        self.train_cfg = ConfigDict(train_cfg or {})
        self.test_cfg = ConfigDict(test_cfg or {})

        self.prior_generator = TASK_UTILS.build(anchor_generator)
        if self.prior_generator.num_levels != 1:
            raise ValueError(
                'YOLOV2Head predicts on one feature map, but the anchor generator has '
                f'{self.prior_generator.num_levels} levels'
            )
        if len(set(self.prior_generator.strides[0])) != 1:
            raise ValueError(
                f'YOLOV2Head needs square grid cells, got {self.prior_generator.strides[0]} pixels'
            )
        self.bbox_coder = TASK_UTILS.build(bbox_coder)
        assigner = self.train_cfg.get('assigner', dict(type='YOLOV2Assigner'))
        self.assigner = TASK_UTILS.build(assigner)
        self._prior_cache: dict = {}

        self._build_losses(loss_obj, loss_cls, loss_xy, loss_wh, loss_bbox)
        layers = []
        for filters in feat_channels:
            layers.append(
                ConvModule(
                    in_channels,
                    filters,
                    3,
                    padding=1,
                    conv_cfg=conv_cfg,
                    norm_cfg=norm_cfg,
                    act_cfg=act_cfg,
                )
            )
            in_channels = filters
        self.convs = nn.Sequential(*layers)
        # The one convolution of YOLOv2 without batch normalization.
        self.conv_pred = nn.Conv2d(in_channels, self.num_anchors * self.num_attrib, 1)

    def _build_losses(self, loss_obj, loss_cls, loss_xy, loss_wh, loss_bbox) -> None:
        self.loss_obj = MODELS.build(loss_obj) if loss_obj else None
        self.loss_cls = MODELS.build(loss_cls)
        self.loss_xy = MODELS.build(loss_xy) if loss_xy else None
        self.loss_wh = MODELS.build(loss_wh) if loss_wh else None
        self.loss_bbox = MODELS.build(loss_bbox) if loss_bbox else None
        for name in ('loss_obj', 'loss_xy', 'loss_wh'):
            if getattr(getattr(self, name), 'use_sigmoid', None) is False:
                raise ValueError(
                    f'YOLOV2Head: {name} is a softmax loss, but there is nothing to choose among: '
                    f'give it use_sigmoid=True'
                )
        self.joint = self.loss_obj is None
        # A loss without the attribute (MSELoss) compares probabilities: Darknet's softmax.
        self.use_sigmoid_cls = getattr(self.loss_cls, 'use_sigmoid', self.joint)
        if self.joint and not self.use_sigmoid_cls:
            raise ValueError(
                'YOLOV2Head: without loss_obj every class is told from the background on its '
                'own: loss_cls must be a sigmoid loss, such as BalancedFocalLoss or '
                'CrossEntropyLoss, with use_sigmoid=True'
            )

    @property
    def num_anchors(self) -> int:
        """A, the anchors of one cell."""
        return self.prior_generator.num_base_priors[0]

    @property
    def num_attrib(self) -> int:
        """Channels of one anchor: 4 for the box, 1 for the objectness, C for the classes."""
        return 5 + self.num_classes

    @property
    def stride(self) -> int:
        """Pixels of a grid cell, in both directions."""
        return self.prior_generator.strides[0][0]

    def init_weights(self) -> None:
        """Initialize as ``init_cfg`` says, then set the prior of the score bias."""
        super().init_weights()
        pretrained = isinstance(self.init_cfg, dict) and self.init_cfg['type'] == 'Pretrained'
        if self.prior_prob is not None and not pretrained:
            bias = self.conv_pred.bias.data.view(self.num_anchors, self.num_attrib)
            scores = slice(5, None) if self.joint else slice(4, 5)
            bias[:, scores] = bias_init_with_prob(self.prior_prob)

    def _load_from_state_dict(self, state_dict: dict, prefix: str, *args, **kwargs) -> None:
        # Checkpoints from before there was the counter.
        state_dict.setdefault(f'{prefix}seen', self.seen)
        # Of a detector of other classes: its last convolution is not loaded, and what was seen was
        # seen by that (as `PretrainedDarknet` has it).
        weight = state_dict.get(f'{prefix}conv_pred.weight')
        if isinstance(weight, Tensor) and weight.shape != self.conv_pred.weight.shape:
            state_dict[f'{prefix}seen'] = self.seen
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)

    def forward(self, feats: tuple[Tensor, ...]) -> tuple[Tensor]:
        """Predict on the last feature map.

        Args:
            feats (tuple[Tensor]): The last is ``(N, in_channels, H, W)``.

        Returns:
            tuple[Tensor]: One map ``(N, A*(5+C), H, W)``: for each anchor in turn the channels
            ``tx, ty, tw, th, to, class logits``, in Darknet's order.
        """
        return (self.conv_pred(self.convs(feats[-1])),)

    def loss_by_feat(
        self,
        pred_map: Tensor | tuple[Tensor],
        batch_gt_instances: list[InstanceData],
        batch_img_metas: list[dict],
        batch_gt_instances_ignore: list[InstanceData] | None = None,
    ) -> dict[str, Tensor]:
        """Losses of a batch, without a loop over images or truths.

        Args:
            pred_map (Tensor | tuple[Tensor]): What :meth:`forward` returns.
            batch_gt_instances (list[InstanceData]): ``bboxes`` ``(n, 4)`` in pixels of the
                network input and ``labels`` ``(n,)`` in 0..C-1, for each image.
            batch_img_metas (list[dict]): Meta data of each image.
            batch_gt_instances_ignore (list[InstanceData], optional): ``bboxes`` of truths that
                make neither positives nor negatives.

        Returns:
            dict[str, Tensor]: Scalars. The losses ``loss_obj``, ``loss_cls``, ``loss_xy``,
            ``loss_wh``, ``loss_bbox``, ``loss_prior`` (of ``coord_prefill``), as far as
            configured; and for the log ``avg_iou`` and
            ``recall50`` of the predictions at matches, ``num_pos`` and ``num_skipped``: truths
            without area, not finite, or centred outside the map, which are left out.

        Raises:
            ValueError: If the map does not fit the stride; on a CPU if a label is outside 0..C-1
                (on a GPU an assertion of the device fails, later).
        """
        pred, priors, featmap_size = self._flatten(pred_map, batch_img_metas)
        decoded = self._decode(pred, priors)
        if self.training:
            self.seen += len(pred) * get_world_size()
        gt_bboxes, gt_mask = _pad([gt.bboxes for gt in batch_gt_instances])
        gt_bboxes = gt_bboxes.to(pred.dtype)
        gt_labels = _pad([gt.labels for gt in batch_gt_instances])[0]
        check_labels(gt_labels, self.num_classes, 'YOLOV2Head')
        ignored = (None, None)
        # MMDetection passes None for an image without the field.
        if any(gt is not None and len(gt) for gt in batch_gt_instances_ignore or ()):
            none = gt_bboxes.new_zeros(0, 4)
            ignored = _pad([none if gt is None else gt.bboxes for gt in batch_gt_instances_ignore])

        anchors = priors[: self.num_anchors, 2:] - priors[: self.num_anchors, :2]
        assigned = self.assigner.assign(
            decoded.detach(), anchors, featmap_size, self.stride, gt_bboxes, gt_mask, *ignored
        )
        # A truth of several anchors is there as often.
        copies = assigned.slot.shape[1] // gt_labels.shape[1]
        gt_bboxes, gt_labels = gt_bboxes.repeat(1, copies, 1), gt_labels.repeat(1, copies)
        num_pos = assigned.matched.sum().to(pred.dtype)
        avg_factor = dict(batch=len(pred), none=1).get(self.normalizer)
        if avg_factor is None:
            avg_factor = reduce_mean(num_pos).clamp(min=1)

        losses = self._score_losses(pred, assigned, gt_labels, avg_factor)
        losses.update(
            self._box_losses(pred, decoded, priors, featmap_size, assigned, gt_bboxes, avg_factor)
        )
        if self.coord_prefill:
            losses['loss_prior'] = self._prior_loss(pred, assigned, avg_factor)
        iou = assigned.iou * assigned.matched
        losses['avg_iou'] = iou.sum() / num_pos.clamp(min=1)
        losses['recall50'] = (iou > 0.5).sum() / num_pos.clamp(min=1)
        losses['num_pos'] = num_pos
        losses['num_skipped'] = assigned.num_skipped.to(pred.dtype)
        return losses

    def predict_by_feat(
        self,
        pred_map: Tensor | tuple[Tensor],
        batch_img_metas: list[dict],
        cfg: dict | None = None,
        rescale: bool = False,
        with_nms: bool = True,
    ) -> list[InstanceData]:
        """Boxes of a batch; decoded, scored and filtered for all images at once.

        Args:
            pred_map (Tensor | tuple[Tensor]): What :meth:`forward` returns.
            batch_img_metas (list[dict]): Meta data of each image: ``img_shape``, or, of a
                letterbox, ``ori_shape`` and ``pad_offset``, ``(left, top)`` in pixels of the
                network input; with these, or to rescale, ``scale_factor``, ``(x, y)``. Boxes are
                clipped to the image.
            cfg (dict, optional): Replaces ``test_cfg``.
            rescale (bool): Return boxes in pixels of the original image. Defaults to False.
            with_nms (bool): Suppress overlapping boxes of a class. Defaults to True.

        Returns:
            list[InstanceData]: For each image ``bboxes`` ``(n, 4)``, ``scores`` ``(n,)`` in
            0..1 and ``labels`` ``(n,)``.
        """
        cfg = self.test_cfg if cfg is None else ConfigDict(cfg)
        pred, priors, _ = self._flatten(pred_map, batch_img_metas)
        scores = self._scores(pred).flatten(1)
        top = min(cfg.get('nms_pre', scores.shape[1]), scores.shape[1])
        scores, index = scores.topk(top if top > 0 else scores.shape[1])
        slot = torch.div(index, self.num_classes, rounding_mode='floor')
        labels = index % self.num_classes
        bboxes = self._decode(_gather(pred[..., :4], slot), priors[slot])
        low, high = _image_bounds(bboxes, batch_img_metas)
        if rescale:
            bboxes = bboxes - low[:, None]
            scale = bboxes.new_tensor([meta['scale_factor'] for meta in batch_img_metas])
            high = (high - low) / scale.repeat(1, 2)
            low = torch.zeros_like(low)

        keep = scores > cfg.get('score_thr', 0)
        results = []
        for image, meta in enumerate(batch_img_metas):
            result = InstanceData(
                bboxes=bboxes[image, keep[image]],
                scores=scores[image, keep[image]],
                labels=labels[image, keep[image]],
            )
            result = self._bbox_post_process(result, cfg, rescale, with_nms, meta)
            # After the suppression, which in Darknet sees whole boxes.
            result.bboxes = torch.minimum(torch.maximum(result.bboxes, low[image]), high[image])
            smallest = cfg.get('min_bbox_size', -1)
            if smallest >= 0:  # what is left of a box may be too small, or have no area
                sides = result.bboxes[:, 2:] - result.bboxes[:, :2]
                result = result[(sides > smallest).all(1)]
            results.append(result)
        return results

    def _flatten(self, pred_map, batch_img_metas) -> tuple[Tensor, Tensor, tuple[int, int]]:
        """The map as ``(N, S, 5+C)``, the priors ``(S, 4)`` and the map's ``(H, W)``."""
        if not isinstance(pred_map, Tensor):
            (pred_map,) = pred_map
        if pred_map.dtype in (torch.float16, torch.bfloat16):
            pred_map = pred_map.float()
        height, width = pred_map.shape[-2:]
        expected = batch_img_metas[0].get('batch_input_shape') if batch_img_metas else None
        if expected is not None:
            got = (height * self.stride, width * self.stride)
            if any(abs(a - b) >= self.stride for a, b in zip(got, expected)):
                raise ValueError(
                    f'YOLOV2Head: the prediction map of {height}x{width} cells does not fit an '
                    f'input of {expected[0]}x{expected[1]} pixels and anchors of stride '
                    f"{self.stride}: check the anchor generator's stride against the backbone's"
                )
        pred = pred_map.permute(0, 2, 3, 1).reshape(len(pred_map), -1, self.num_attrib)
        key = (height, width, pred.device, pred.dtype)
        if key not in self._prior_cache:
            self._check_anchors(height, width)
            self._prior_cache[key] = self.prior_generator.grid_priors(
                [(height, width)], dtype=pred.dtype, device=pred.device
            )[0]
        return pred, self._prior_cache[key], (height, width)

    def _check_anchors(self, height: int, width: int) -> None:
        """Refuse anchors that were given in pixels, of which none is near the map's size."""
        pixels = self.prior_generator.base_sizes[0]
        # Of frame-filling objects all anchors may be larger, in multi-scale training.
        if all(w > 2 * width * self.stride and h > 2 * height * self.stride for w, h in pixels):
            raise ValueError(
                f'YOLOV2Head: every anchor is twice as large as the map of {height}x{width} cells, '
                'or more. Anchors are in cells, not pixels: divide them by the stride '
                f'{self.stride}'
            )

    def _decode(self, pred: Tensor, priors: Tensor) -> Tensor:
        """Raw ``(..., >=4)`` to boxes in pixels (design of YOLOv2, equations for bx..bh)."""
        raw = torch.cat([pred[..., :2].sigmoid(), pred[..., 2:4].clamp(max=MAX_LOG_SIZE)], -1)
        return self.bbox_coder.decode(priors, raw, self.stride)

    def _scores(self, pred: Tensor) -> Tensor:
        """Scores ``(N, S, C)`` of every class at every slot."""
        classes = pred[..., 5:]
        if self.joint:
            return classes.sigmoid()
        classes = classes.sigmoid() if self.use_sigmoid_cls else classes.softmax(-1)
        return pred[..., 4:5].sigmoid() * classes

    def _score_losses(self, pred, assigned, gt_labels, avg_factor) -> dict[str, Tensor]:
        """``loss_obj`` of every slot and ``loss_cls`` at matches; or the joint ``loss_cls``."""
        quality = assigned.positive.to(pred.dtype)
        if self.rescore:
            quality = quality * assigned.iou.gather(1, assigned.truth)
        weight = (
            self.object_scale * assigned.positive + self.noobject_scale * assigned.negative
        ).to(pred.dtype)
        classes = torch.arange(self.num_classes, device=pred.device)

        if self.joint:
            label = gt_labels.gather(1, assigned.truth)
            target = (label[..., None] == classes) * quality[..., None]
            loss = _dense_loss(self.loss_cls, pred[..., 5:], target, weight, avg_factor)
            return dict(loss_cls=loss)

        losses = dict(
            loss_obj=_dense_loss(
                self.loss_obj, pred[..., 4:5], quality[..., None], weight, avg_factor
            )
        )
        at_truth = _gather(pred[..., 5:], assigned.slot)
        matched = self.class_scale * assigned.matched.to(pred.dtype)
        if self.use_sigmoid_cls or not _takes_logits(self.loss_cls):
            if not self.use_sigmoid_cls:
                at_truth = at_truth.softmax(-1)
            target = (gt_labels[..., None] == classes).to(pred.dtype)
            if self.use_sigmoid_cls:
                # Independent classes: every truth on the slot adds its own, as in Darknet.
                same_slot = assigned.slot[:, :, None] == assigned.slot[:, None]
                same_slot = (same_slot & assigned.valid[:, None]).to(pred.dtype)
                target = (same_slot @ target).clamp(max=1)
            losses['loss_cls'] = _dense_loss(
                self.loss_cls, at_truth, target, matched, avg_factor, self.use_sigmoid_cls
            )
        else:
            losses['loss_cls'] = self.loss_cls(
                at_truth.flatten(0, 1),
                gt_labels.flatten(),
                matched.flatten(),
                avg_factor=avg_factor,
            )
        return losses

    def _box_losses(
        self, pred, decoded, priors, featmap_size, assigned, gt_bboxes, avg_factor
    ) -> dict[str, Tensor]:
        """The losses of the boxes at matches."""
        matched = assigned.matched
        slot_priors = priors[assigned.slot]
        # Padding gets the prior itself as its truth: finite whatever stood there.
        truth = torch.where(matched[..., None], gt_bboxes, slot_priors)
        weight = matched.to(pred.dtype)
        losses = {}
        if self.loss_xy is not None:
            at_truth = _gather(pred[..., :4], assigned.slot)
            target = self.bbox_coder.encode(slot_priors, truth, self.stride)
            coord_weight = self.coord_scale * weight
            if self.coord_area_weight:
                pixels = featmap_size[0] * featmap_size[1] * self.stride**2
                area = (truth[..., 2:] - truth[..., :2]).prod(-1) / pixels
                # A truth that nothing has clipped may be larger than the input, Darknet's are not.
                coord_weight = coord_weight * (2 - area.clamp(max=1))
            losses['loss_xy'] = _dense_loss(
                self.loss_xy, at_truth[..., :2], target[..., :2], coord_weight, avg_factor
            )
            losses['loss_wh'] = _dense_loss(
                self.loss_wh, at_truth[..., 2:], target[..., 2:], coord_weight, avg_factor, False
            )
        if self.loss_bbox is not None:
            losses['loss_bbox'] = self.loss_bbox(
                _gather(decoded, assigned.slot).flatten(0, 1),
                truth.flatten(0, 1),
                # As MMDetection's heads give it, of each coordinate.
                weight.flatten()[:, None].expand(-1, 4),
                avg_factor=avg_factor,
            )
        return losses

    def _prior_loss(self, pred, assigned, avg_factor) -> Tensor:
        """Pull slots without a truth to the centre of their cell and the size of their anchor."""
        young = self.seen < self.coord_prefill
        weight = PRIOR_WEIGHT * (young & ~assigned.positive).to(pred.dtype)
        xy, wh = pred[..., :2], pred[..., 2:4]
        centre = torch.full_like(xy, 0.5)
        loss_xy = _dense_loss(self.loss_xy, xy, centre, weight, avg_factor)
        return loss_xy + _dense_loss(
            self.loss_wh, wh, torch.zeros_like(wh), weight, avg_factor, False
        )


def _takes_logits(loss: nn.Module) -> bool:
    """Whether a loss applies the activation itself, as MMDetection's sigmoid losses do."""
    return hasattr(loss, 'use_sigmoid') and not getattr(loss, 'activated', False)


def _dense_loss(loss, pred, target, weight, avg_factor, sigmoid: bool = True) -> Tensor:
    """Call ``loss`` on ``(N, K, C)`` predictions and dense targets, weighted by ``(N, K)``.

    ``sigmoid`` says whether predictions are logits, to be activated for losses that do not.
    """
    if sigmoid and not _takes_logits(loss):
        pred = pred.sigmoid()
    pred, target, weight = pred.flatten(0, 1), target.flatten(0, 1), weight.flatten()
    # MMDetection's QualityFocalLoss sums over the classes before it weights.
    if not isinstance(loss, QualityFocalLoss):
        weight = weight[:, None].expand_as(pred)
    return loss(pred, target.to(pred.dtype), weight, avg_factor=avg_factor)


def _gather(values: Tensor, slot: Tensor) -> Tensor:
    """Rows of ``(N, S, K)`` at ``(N, M)`` slots: ``(N, M, K)``."""
    return values.gather(1, slot[..., None].expand(-1, -1, values.shape[-1]))


def _image_bounds(like: Tensor, metas: list[dict]) -> tuple[Tensor, Tensor]:
    """Corners ``(N, 4)`` of the images in their network inputs, as (x, y, x, y), in pixels.

    In a letterbox the image begins at ``pad_offset``; without that key it fills ``img_shape``, but
    for what a step of the pipeline has padded, of which that has the size.
    """
    low, high = [], []
    for meta in metas:
        if 'pad_offset' in meta:
            left, top = meta['pad_offset']
            right = left + meta['ori_shape'][1] * meta['scale_factor'][0]
            bottom = top + meta['ori_shape'][0] * meta['scale_factor'][1]
        else:
            left = top = 0.0
            bottom, right = meta['img_shape'][:2]
            if 'scale_factor' in meta and 'ori_shape' in meta:
                (height, width), (x, y) = meta['ori_shape'][:2], meta['scale_factor'][:2]
                right, bottom = min(right, round(width * x)), min(bottom, round(height * y))
        low.append((left, top, left, top))
        high.append((right, bottom, right, bottom))
    return like.new_tensor(low), like.new_tensor(high)


def _pad(per_image: list) -> tuple[Tensor, Tensor]:
    """Tensors ``(n_i, ...)`` as one ``(N, M, ...)``, M at least 1, and a mask ``(N, M)``."""
    per_image = [get_box_tensor(x) if not isinstance(x, Tensor) else x for x in per_image]
    mask = pad_sequence([x.new_ones(len(x), dtype=torch.bool) for x in per_image], True)
    values = pad_sequence(per_image, True)
    if values.shape[1] == 0:
        values = values.new_zeros(len(per_image), 1, *values.shape[2:])
        mask = mask.new_zeros(len(per_image), 1)
    return values, mask
