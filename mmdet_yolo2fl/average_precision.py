"""AP by class, at IoU 0.5 too, from the files that MMDetection's CocoMetric writes."""

import contextlib
import io
import json
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval


def ap_by_class(
    prefix: str | Path, truths: str | Path | None = None, classes: Sequence[str] = ()
) -> dict[str, tuple[float, float]]:
    """AP50 and AP of every class, and under ``'all'`` their means.

    ``CocoMetric`` itself tells the classes apart for AP only.

    Args:
        prefix (str | Path): ``outfile_prefix`` of a ``CocoMetric``, which wrote
            ``<prefix>.bbox.json``.
        truths (str | Path, optional): Its ``ann_file``. Defaults to ``<prefix>.gt.json``, which
            it writes where it has none.
        classes (Sequence[str]): Only those, as far as they are in the truths. Defaults to all.

    Returns:
        dict[str, tuple[float, float]]: In 0..1; NaN for a class without truths. Up to 1000 boxes
        of an image count; in ``CocoMetric``'s ``bbox_mAP``, unlike its other figures, 100.

    Raises:
        FileNotFoundError: If one of the files is missing.
    """
    truth_file, found_file = truths or f'{prefix}.gt.json', Path(f'{prefix}.bbox.json')
    with contextlib.redirect_stdout(io.StringIO()):  # pycocotools talks
        truth = COCO(str(truth_file))
        # As COCOeval arranges its figures, whatever the order of the file.
        ids = np.unique(truth.getCatIds(catNms=list(classes))).tolist()
        names = [category['name'] for category in truth.loadCats(ids)]
        if not json.loads(found_file.read_text()):
            known = {one['category_id'] for one in truth.anns.values() if not one.get('iscrowd')}
            found = {
                name: (0.0, 0.0) if number in known else (math.nan, math.nan)
                for name, number in zip(names, ids)
            }
            return found | {'all': (0.0, 0.0) if known.intersection(ids) else (math.nan, math.nan)}
        evaluation = COCOeval(truth, truth.loadRes(str(found_file)), 'bbox')
        evaluation.params.catIds = ids
        evaluation.params.maxDets = [100, 300, 1000]  # CocoMetric's
        evaluation.evaluate()
        evaluation.accumulate()
    # thresholds x recalls x classes, for boxes of all sizes; -1 for a class without truths
    precision = evaluation.eval['precision'][..., 0, -1]
    precision = np.where(precision < 0, np.nan, precision)
    table = {
        name: (precision[0, :, k].mean(), precision[:, :, k].mean()) for k, name in enumerate(names)
    }
    table['all'] = tuple(np.nanmean(list(table.values()), 0))
    return table
