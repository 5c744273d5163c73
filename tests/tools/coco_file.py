"""A data set of one image that nobody has to draw."""

import json
from collections.abc import Sequence
from pathlib import Path


def write_coco(folder: Path, boxes: Sequence[tuple]) -> Path:
    """Annotations in COCO's format of one 100x50 image.

    Args:
        folder (Path): Where to write.
        boxes (Sequence[tuple]): ``(x, y, w, h)`` in pixels, with a fifth 1 for a crowd.

    Returns:
        Path: The annotation file.
    """
    annotations = [
        dict(
            id=index,
            image_id=1,
            category_id=1,
            bbox=box[:4],
            area=box[2] * box[3],
            iscrowd=int(len(box) > 4),
        )
        for index, box in enumerate(boxes, 1)
    ]
    content = dict(
        images=[dict(id=1, file_name='image.png', width=100, height=50)],
        annotations=annotations,
        categories=[dict(id=1, name='cell')],
    )
    path = folder / 'coco.json'
    path.write_text(json.dumps(content), encoding='utf-8')
    return path
