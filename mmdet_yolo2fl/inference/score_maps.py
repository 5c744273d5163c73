"""What a YOLOv2 says in every cell, as maps to look at."""

from typing import NamedTuple

import numpy as np
import torch
from mmengine.structures import InstanceData
from torch import Tensor

from ..models.dense_heads.yolov2_head import YOLOV2Head, _pad


class ScoreMaps(NamedTuple):
    """Maps of one image, a value for each cell.

    Attributes:
        objectness (np.ndarray): ``(H, W)`` in 0..1, the highest of the cell's anchors (in the
            joint way: of their class scores).
        pt (np.ndarray): ``(H, W)`` in 0..1, the lowest of the cell's anchors: the probability
            given to what is true there (Focal Loss, equation 2). Low is hard: there the loss is.
            NaN where every slot is ignored.
    """

    objectness: np.ndarray
    pt: np.ndarray


@torch.no_grad()
def score_maps(
    head: YOLOV2Head, pred_map: Tensor, meta: dict, truths: InstanceData | None = None
) -> ScoreMaps:
    """The objectness of an image and, given its truths, how right it is.

    Args:
        head (YOLOV2Head): The head.
        pred_map (Tensor): ``(1, A*(5+C), H, W)`` of its ``forward``.
        meta (dict): Meta data of the image.
        truths (InstanceData, optional): ``bboxes`` ``(n, 4)`` in pixels of the network input and
            ``labels`` ``(n,)``; or what the detector itself found, to see how sure it is of that.
            Defaults to none: everything is background.
    """
    pred, priors, (height, width) = head._flatten(pred_map, [meta])
    logits = pred[..., 5:] if head.joint else pred[..., 4:5]
    scores = logits.sigmoid()
    boxes = pred.new_zeros(0, 4) if truths is None else truths.bboxes.to(pred)
    labels = boxes.new_zeros(0) if truths is None else truths.labels.to(boxes.device)
    (padded, mask), (labels, _) = _pad([boxes]), _pad([labels])
    anchors = priors[: head.num_anchors, 2:] - priors[: head.num_anchors, :2]
    assigned = head.assigner.assign(
        head._decode(pred, priors), anchors, (height, width), head.stride, padded, mask
    )
    target = assigned.positive[..., None]
    if head.joint:
        # A truth of several anchors is there as often.
        owner = labels[0, assigned.truth % labels.shape[1]]
        target = target & (owner[..., None] == torch.arange(head.num_classes).to(owner))
    pt = torch.where(target, scores, 1 - scores).amin(-1)
    ignored = ~(assigned.positive | assigned.negative)
    pt = pt.masked_fill(ignored, 2.0)  # above every probability
    cells = height, width, head.num_anchors
    pt = pt.view(cells).amin(-1)
    pt = pt.masked_fill(pt > 1, torch.nan)
    return ScoreMaps(scores.amax(-1).view(cells).amax(-1).cpu().numpy(), pt.cpu().numpy())


def over_image(values: np.ndarray, meta: dict, stride: int) -> tuple[float, float, float, float]:
    """Where a map lies over the original image.

    Args:
        values (np.ndarray): ``(H, W)``.
        meta (dict): With ``ori_shape``, ``img_shape``, and of a letterbox ``pad_offset`` and
            ``scale_factor``.
        stride (int): Pixels of a cell in the network input.

    Returns:
        tuple[float, float, float, float]: Left, right, bottom, top in pixels of the original
        image, as Matplotlib's ``extent``; outside of it where the input was padded.
    """
    left, top = meta.get('pad_offset', (0, 0))
    scale_x, scale_y = meta['scale_factor']
    height, width = values.shape
    right, bottom = width * stride - left, height * stride - top
    return -left / scale_x, right / scale_x, bottom / scale_y, -top / scale_y
