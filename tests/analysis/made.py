"""Data sets and predictions made by hand."""

import numpy as np
import torch

from mmdet_yolo2fl.analysis.evaluation import evaluate
from mmdet_yolo2fl.analysis.predictions import flatten
from mmdet_yolo2fl.analysis.truths import load_truths


class MadeDataset:
    """As much of a data set of MMDetection as an analysis reads.

    Args:
        images (list[list[tuple]]): For each image its boxes: ``(label, (x1, y1, x2, y2))``, a
            third True for an ignored one.
        classes (tuple[str]): Names.
    """

    def __init__(self, images, classes=('cat', 'dog')):
        self.images = images
        self.metainfo = dict(classes=classes)

    def __len__(self):
        return len(self.images)

    def get_data_info(self, index):
        instances = [
            dict(bbox=list(box), bbox_label=label, ignore_flag=int(any(rest)))
            for label, box, *rest in self.images[index]
        ]
        return dict(
            img_id=f'image {index}',
            img_path=f'nowhere/{index}.png',
            instances=instances,
            width=200,
            height=100,
        )


def found(*boxes):
    """The predictions on an image from ``(label, score, (x1, y1, x2, y2))``."""
    return dict(
        pred_instances=dict(
            labels=torch.tensor([box[0] for box in boxes], dtype=torch.long),
            scores=torch.tensor([box[1] for box in boxes], dtype=torch.float32),
            bboxes=torch.tensor([box[2] for box in boxes], dtype=torch.float32).reshape(-1, 4),
        )
    )


def analyzed(images, predictions, classes=('cat', 'dog'), **kwargs):
    """The evaluation of predictions on a made data set."""
    truths = load_truths(MadeDataset(images, classes))
    return evaluate(truths, flatten(predictions, truths.ids, len(classes)), **kwargs)


def random_scenes(seed, num_images=6, num_classes=3):
    """Truths, some ignored, and predictions, some near them, some anywhere."""
    rng = np.random.default_rng(seed)
    images, predictions = [], []
    for _ in range(num_images):
        corners = rng.uniform(0, 80, (rng.integers(0, 6), 2))
        boxes = np.hstack([corners, corners + rng.uniform(5, 150, corners.shape)]).round(1)
        images.append(
            [(int(rng.integers(num_classes)), tuple(b), rng.random() < 0.2) for b in boxes.tolist()]
        )
        near = np.repeat(boxes, 3, 0) + rng.normal(0, 6, (3 * len(boxes), 4))
        anywhere = rng.uniform(0, 80, (4, 2))
        near = np.vstack([near, np.hstack([anywhere, anywhere + 40])])
        near[:, 2:] = np.maximum(near[:, 2:], near[:, :2] + 1)
        predictions.append(
            found(
                *(
                    (int(rng.integers(num_classes)), round(float(rng.random()), 2), tuple(b))
                    for b in near.tolist()
                )
            )
        )
    return images, predictions
