"""Average precision by pycocotools and MMDetection, and what was matched with what."""

import contextlib
import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from mmdet.evaluation import eval_map
from pycocotools.cocoeval import COCOeval

from .matches import Matches, by_image, pair
from .predictions import Predictions
from .truths import Truths, make_coco

# COCO's borders, by area in square pixels.
COCO_SIZES = dict(small=(0, 32**2), medium=(32**2, 96**2), large=(96**2, 1e5**2))


@dataclass
class Evaluation:
    """What a detector reaches on a data set. NaN where there are no true boxes.

    Attributes:
        ap (np.ndarray): ``(C,)`` in 0..1, COCO's AP, over IoU 0.50 to 0.95.
        ap50 (np.ndarray): ``(C,)`` in 0..1, COCO's AP at IoU 0.50.
        voc_ap50 (np.ndarray): ``(C,)`` in 0..1, AP at IoU 0.50 as ``VOCMetric`` has it.
        sizes (dict): By name of the size: ``range`` (least and largest area), ``truths``
            ``(C,)``, ``ap`` ``(C,)``.
        matches (Matches): At one IoU.
    """

    ap: np.ndarray
    ap50: np.ndarray
    voc_ap50: np.ndarray
    sizes: dict[str, dict]
    matches: Matches


def evaluate(
    truths: Truths,
    predictions: Predictions,
    iou_thr: float = 0.5,
    max_dets: Sequence[int] = (100, 300, 1000),
    voc_mode: str = 'area',
) -> Evaluation:
    """Compare predictions with the truth.

    Args:
        truths (Truths): Of the data set.
        predictions (Predictions): On its images.
        iou_thr (float): From which IoU on a box counts as found, for ``matches``. Defaults to 0.5.
        max_dets (Sequence[int]): ``proposal_nums`` of ``CocoMetric``; the last one counts.
        voc_mode (str): ``eval_mode`` of ``VOCMetric``, 'area' or '11points'.
    """
    sizes = COCO_SIZES | _terciles(truths)
    coco = _run_coco(truths, predictions, iou_thr, list(max_dets), list(sizes.values()))
    # IoU, recall, class, size, number of boxes; -1 where there are no truths
    precision = coco.eval['precision'][:, :, :, :, -1]
    precision = np.where(precision < 0, np.nan, precision)
    # COCOeval arranges the classes by their ids, not as they were given.
    precision = precision[:, :, np.unique(truths.category_ids, return_inverse=True)[1]]
    standard, ap50 = precision[:-1].mean((0, 1)), precision[0].mean(0)
    counted = ~truths.ignored
    return Evaluation(
        ap=standard[:, 0],
        ap50=ap50[:, 0],
        voc_ap50=_voc(truths, predictions, voc_mode),
        sizes={
            name: dict(
                range=limits,
                ap=standard[:, number],
                truths=np.bincount(
                    truths.labels[
                        counted & (truths.areas >= limits[0]) & (truths.areas <= limits[1])
                    ],
                    minlength=len(truths.classes),
                ),
            )
            for number, (name, limits) in enumerate(sizes.items(), 1)
        },
        matches=_matches(coco, truths, predictions),
    )


def mean(values: np.ndarray) -> float:
    """Over the classes that have truths; NaN if none has."""
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else float('nan')


def _terciles(truths: Truths) -> dict[str, tuple[float, float]]:
    """Three sizes of as many boxes, for a set whose boxes are all of one of COCO's."""
    areas = truths.areas[~truths.ignored]
    used = [
        name for name, (low, high) in COCO_SIZES.items() if ((areas >= low) & (areas < high)).any()
    ]
    borders = np.unique(np.quantile(areas, [1 / 3, 2 / 3])) if len(areas) else []
    if len(used) != 1 or len(borders) != 2:
        return {}
    low, high = map(float, borders)
    # COCO's ranges include both ends, and a box on the border must not count twice.
    return {
        'smallest third': (0.0, float(np.nextafter(low, 0))),
        'middle third': (low, float(np.nextafter(high, 0))),
        'largest third': (high, 1e5**2),
    }


def _run_coco(truths, predictions, iou_thr, max_dets, sizes) -> COCOeval:
    """Run pycocotools; the last of its IoU thresholds is ``iou_thr``."""
    widths = predictions.boxes[:, 2:] - predictions.boxes[:, :2]
    entries = [
        dict(
            id=number,
            image_id=truths.coco_ids[image],
            category_id=truths.category_ids[label],
            bbox=[*corner, *width],
            area=width[0] * width[1],
            iscrowd=0,
            score=score,
        )
        for number, (image, label, corner, width, score) in enumerate(
            zip(
                predictions.images.tolist(),
                predictions.labels.tolist(),
                predictions.boxes[:, :2].tolist(),
                widths.tolist(),
                predictions.scores.tolist(),
            ),
            1,
        )
    ]
    found = make_coco(truths.coco.dataset['images'], truths.coco.dataset['categories'], entries)
    coco = COCOeval(truths.coco, found, 'bbox')
    coco.params.imgIds = list(truths.coco_ids)
    coco.params.catIds = list(truths.category_ids)
    coco.params.maxDets = max_dets
    coco.params.iouThrs = np.append(coco.params.iouThrs, iou_thr)
    coco.params.areaRng = [[0, 1e5**2], *map(list, sizes)]
    coco.params.areaRngLbl = [str(number) for number in range(len(sizes) + 1)]
    with contextlib.redirect_stdout(io.StringIO()):  # it talks
        coco.evaluate()
        coco.accumulate()
    return coco


def _matches(coco: COCOeval, truths: Truths, predictions: Predictions) -> Matches:
    """The assignment that pycocotools has made at the last threshold, for boxes of all sizes."""
    ignored = np.ones(len(predictions.scores), bool)  # beyond maxDets: not looked at
    truth = np.full(len(predictions.scores), -1)
    places = {entry: number for number, entry in enumerate(truths.annotation_ids)}
    everything = list(coco.params.areaRng[0])
    for image in coco.evalImgs:
        if image is None or list(image['aRng']) != everything:
            continue
        numbers = np.array(image['dtIds'], int) - 1
        ignored[numbers] = image['dtIgnore'][-1].astype(bool)
        # 0, `unmatched`, is the number of no annotation.
        truth[numbers] = [places.get(int(entry), -1) for entry in image['dtMatches'][-1]]
    truth[ignored] = -1
    return Matches(
        classes=truths.classes,
        num_images=len(truths.ids),
        iou_thr=float(coco.params.iouThrs[-1]),
        images=predictions.images,
        labels=predictions.labels,
        scores=predictions.scores,
        boxes=predictions.boxes,
        ignored=ignored,
        truth=truth,
        truth_images=truths.images,
        truth_labels=truths.labels,
        truth_boxes=truths.boxes,
        truth_ignored=truths.ignored,
        pairs=pair(predictions, truths),
    )


def _voc(truths: Truths, predictions: Predictions, mode: str) -> np.ndarray:
    """AP50 of every class by MMDetection's ``eval_map``, with the arguments of ``VOCMetric``."""
    classes = range(len(truths.classes))
    table = np.column_stack([predictions.boxes, predictions.scores]).astype(np.float32)
    boxes = truths.boxes.astype(np.float32)
    found, wanted = [], []
    for mine, here in zip(
        by_image(predictions.images, len(truths.ids)), by_image(truths.images, len(truths.ids))
    ):
        found.append([table[mine[predictions.labels[mine] == label]] for label in classes])
        kept, crowd = here[~truths.ignored[here]], here[truths.ignored[here]]
        wanted.append(
            dict(
                bboxes=boxes[kept],
                labels=truths.labels[kept],
                bboxes_ignore=boxes[crowd],
                labels_ignore=truths.labels[crowd],
            )
        )
    _, results = eval_map(
        found,
        wanted,
        iou_thr=0.5,
        logger='silent',
        nproc=1,
        use_legacy_coordinate=True,
        eval_mode=mode,
    )
    return np.array([float(r['ap']) if r['num_gts'] else np.nan for r in results])
