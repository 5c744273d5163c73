"""YOLOv2's assignment of ground truths to predictions, for a whole batch at once."""

from typing import NamedTuple

import torch
from mmdet.registry import TASK_UTILS
from torch import Tensor

# Pixels. The area of what is larger would overflow.
MAX_SIZE = 1e9


class YOLOV2Assignment(NamedTuple):
    """Who is responsible for what; B images, M padded truths, S = H*W*A slots.

    With K anchors for a truth there are K copies of the truths one after the other, and M stands
    for K times as many; the last copy has the best anchors.

    Attributes:
        slot (Tensor): ``(B, M)`` int64, the slot of each truth, 0..S-1, in the order of
            MMDetection's ``grid_priors``: row, column, anchor. Of no meaning where not ``matched``.
        valid (Tensor): ``(B, M)`` bool, truths fit to be learned.
        matched (Tensor): ``(B, M)`` bool, True for a valid truth that owns its slot.
        truth (Tensor): ``(B, S)`` int64, the truth that owns each slot, 0 where there is none.
        positive (Tensor): ``(B, S)`` bool, slots that own a truth.
        negative (Tensor): ``(B, S)`` bool, slots that shall predict no object. A slot that is
            neither positive nor negative is ignored for objectness.
        iou (Tensor): ``(B, M)`` IoU in 0..1 of each truth with the prediction at its slot.
        num_skipped (Tensor): 0-d, truths left out: no area, not finite, or centred outside
            the map.
    """

    slot: Tensor
    valid: Tensor
    matched: Tensor
    truth: Tensor
    positive: Tensor
    negative: Tensor
    iou: Tensor
    num_skipped: Tensor


@TASK_UTILS.register_module()
class YOLOV2Assigner:
    """One truth, one slot: the cell of its centre and the anchor of the most similar shape.

    The anchor is the one with the highest IoU when both boxes are centred at the origin; of
    equal ones the first. When two truths fall on the same slot, the later one in the list owns
    it. Any other prediction that overlaps a truth by more than ``ignore_iou_thr`` is ignored
    for objectness, and all that remain are negatives (YOLO9000, section 2; Darknet's
    ``region_layer.c``).

    Args:
        ignore_iou_thr (float): Darknet's ``thresh``, strict. Defaults to 0.6.
        bias_match (bool): Choose by the anchors' shapes (Darknet's ``bias_match=1``); if False,
            by the predicted widths and heights. Defaults to True.
        ignore_iof_thr (float): A prediction with more than this share of its area inside an
            ignored truth (crowd, difficult) is no negative. Defaults to 0.5.
        anchors_per_truth (int): How many anchors of its cell may be responsible for a truth: the
            best, and the next ones if they fit. More than one is not YOLOv2's way (AlexeyAB's
            fork has it for YOLOv3 as ``iou_thresh``). A slot that is another truth's best choice
            stays that truth's. Defaults to 1.
        anchor_iou_thr (float): A further anchor fits above this IoU with the truth, both centred
            at the origin. Defaults to 0.5.

    Raises:
        ValueError: If a threshold lies outside 0..1, or ``anchors_per_truth`` is below 1.
    """

    def __init__(
        self,
        ignore_iou_thr: float = 0.6,
        bias_match: bool = True,
        ignore_iof_thr: float = 0.5,
        anchors_per_truth: int = 1,
        anchor_iou_thr: float = 0.5,
    ) -> None:
        for name, value in dict(
            ignore_iou_thr=ignore_iou_thr,
            ignore_iof_thr=ignore_iof_thr,
            anchor_iou_thr=anchor_iou_thr,
        ).items():
            if not 0 <= value <= 1:
                raise ValueError(f'YOLOV2Assigner: {name} must lie in 0..1, got {value}')
        self.ignore_iou_thr = ignore_iou_thr
        self.bias_match = bias_match
        if anchors_per_truth < 1:
            raise ValueError(
                f'YOLOV2Assigner: anchors_per_truth must be at least 1, got {anchors_per_truth}'
            )
        self.ignore_iof_thr = ignore_iof_thr
        self.anchors_per_truth = anchors_per_truth
        self.anchor_iou_thr = anchor_iou_thr

    @torch.no_grad()
    def assign(
        self,
        pred_bboxes: Tensor,
        anchors: Tensor,
        featmap_size: tuple[int, int],
        stride: int,
        gt_bboxes: Tensor,
        gt_mask: Tensor,
        ignored_bboxes: Tensor | None = None,
        ignored_mask: Tensor | None = None,
    ) -> YOLOV2Assignment:
        """Assign a batch. All boxes are ``(x1, y1, x2, y2)`` in pixels of the network input.

        Args:
            pred_bboxes (Tensor): ``(B, S, 4)`` decoded predictions.
            anchors (Tensor): ``(A, 2)`` widths and heights of the anchors in pixels.
            featmap_size (tuple[int, int]): ``(H, W)`` of the prediction map.
            stride (int): Pixels of a cell.
            gt_bboxes (Tensor): ``(B, M, 4)`` truths, padded with anything.
            gt_mask (Tensor): ``(B, M)`` bool, False for the padding.
            ignored_bboxes, ignored_mask (Tensor, optional): The same for ignored truths.

        Returns:
            YOLOV2Assignment: See there for the shapes.
        """
        batch_size, num_slots = pred_bboxes.shape[:2]
        slot, valid = self._slots(pred_bboxes, anchors, featmap_size, stride, gt_bboxes, gt_mask)
        num_skipped = (gt_mask & ~valid[:, -gt_mask.shape[1] :]).sum()
        gt_bboxes = gt_bboxes.repeat(1, slot.shape[1] // gt_bboxes.shape[1], 1)
        # Boxes that cannot be learned overlap nothing; NaN would spread through the IoU.
        gt_bboxes = gt_bboxes.masked_fill(~valid[..., None], 0.0)
        ious = pairwise_overlaps(pred_bboxes, gt_bboxes)[0]

        # The later truth wins: a maximum over positions, which unlike an indexed write gives
        # the same result whatever the order of the writes.
        position = torch.arange(1, slot.shape[1] + 1, device=slot.device) * valid
        owner = torch.zeros(batch_size, num_slots, dtype=slot.dtype, device=slot.device)
        owner = owner.scatter_reduce(1, slot, position, 'amax')
        positive = owner > 0

        negative = (ious <= self.ignore_iou_thr).all(-1)
        if ignored_bboxes is not None:
            negative &= ~self._ignored_slots(
                pred_bboxes, anchors, featmap_size, stride, ignored_bboxes, ignored_mask
            )
        return YOLOV2Assignment(
            slot=slot,
            valid=valid,
            matched=valid & (owner.gather(1, slot) == position),
            truth=(owner - 1).clamp(min=0),
            positive=positive,
            negative=negative & ~positive,
            iou=ious.gather(1, slot[:, None]).squeeze(1),
            num_skipped=num_skipped,
        )

    def _slots(self, pred_bboxes, anchors, featmap_size, stride, gt_bboxes, gt_mask):
        """The slots of every truth ``(B, K M)``, and which are fit to have it."""
        height, width = featmap_size
        size = gt_bboxes[..., 2:] - gt_bboxes[..., :2]
        x, y = ((gt_bboxes[..., :2] + gt_bboxes[..., 2:]) / (2 * stride)).unbind(-1)
        # Written so that NaN is invalid too.
        inside = (x >= 0) & (x <= width) & (y >= 0) & (y <= height)
        valid = gt_mask & inside & ((size > 0) & (size < MAX_SIZE)).all(-1)

        column = x.masked_fill(~valid, 0.0).long().clamp(max=width - 1)
        row = y.masked_fill(~valid, 0.0).long().clamp(max=height - 1)
        cell_index = row * width + column

        shapes = anchors
        if not self.bias_match:
            index = cell_index[..., None, None].expand(-1, -1, len(anchors), 4)
            per_cell = pred_bboxes.unflatten(1, (height * width, len(anchors)))
            boxes = per_cell.gather(1, index)
            shapes = boxes[..., 2:] - boxes[..., :2]
        size = size[..., None, :]
        intersection = torch.minimum(size, shapes).prod(-1)
        iou = intersection / (size.prod(-1) + shapes.prod(-1) - intersection)
        count = min(self.anchors_per_truth, len(anchors))
        if count == 1:
            return cell_index * len(anchors) + iou.argmax(-1), valid
        # Stable: of equal anchors the first. The best come last, where they win their slots.
        iou, index = iou.nan_to_num(-1).sort(dim=-1, descending=True, stable=True)
        iou, index = iou[..., :count].flip(-1), index[..., :count].flip(-1)
        fits = iou > self.anchor_iou_thr
        fits[..., -1] = True
        slots = cell_index[..., None] * len(anchors) + index
        valid = valid[..., None] & fits
        return slots.transpose(1, 2).flatten(1), valid.transpose(1, 2).flatten(1)

    def _ignored_slots(self, pred_bboxes, anchors, featmap_size, stride, bboxes, mask):
        """Slots ``(B, S)`` that lie in an ignored truth, or would be responsible for one."""
        slot, valid = self._slots(pred_bboxes, anchors, featmap_size, stride, bboxes, mask)
        # A region counts as far as it reaches into the image, wherever its centre lies.
        bboxes = bboxes.masked_fill(~(mask[..., None] & bboxes.isfinite()), 0.0)
        inside = pairwise_overlaps(pred_bboxes, bboxes)[1] > self.ignore_iof_thr
        responsible = torch.zeros_like(inside[..., 0]).long()
        responsible = responsible.scatter_reduce(1, slot, valid.long(), 'amax')
        return inside.any(-1) | (responsible > 0)


def pairwise_overlaps(boxes: Tensor, others: Tensor) -> tuple[Tensor, Tensor]:
    """IoU, and the share of each box that lies in the other; MMDetection's ``bbox_overlaps``.

    That one copies a constant to the device at every call, for which the CPU waits.

    Args:
        boxes (Tensor): ``(B, S, 4)`` corners.
        others (Tensor): ``(B, M, 4)`` corners.

    Returns:
        tuple[Tensor, Tensor]: Both ``(B, S, M)``, in 0..1.
    """
    boxes, others = boxes[:, :, None], others[:, None]
    corner = torch.minimum(boxes[..., 2:], others[..., 2:])
    size = (corner - torch.maximum(boxes[..., :2], others[..., :2])).clamp(min=0)
    intersection = size[..., 0] * size[..., 1]
    area, other_area = ((x[..., 2] - x[..., 0]) * (x[..., 3] - x[..., 1]) for x in (boxes, others))
    union = (area + other_area - intersection).clamp(min=1e-6)
    return intersection / union, intersection / area.clamp(min=1e-6)
