"""Darknet's region layer as plain loops: what it adds to its input's gradient, with its sign.

Written from the equations (design of the project; src/region_layer.c of the two Darknets), without
the package. ``delta`` is minus the gradient of the loss with respect to the raw output.
"""

import math

from .oracle import decode, iou, sigmoid

PREFILL = 12800


def softmax(logits):
    largest = max(logits)
    powers = [math.exp(z - largest) for z in logits]
    return [power / sum(powers) for power in powers]


def region_delta(
    maps,
    truths,
    labels,
    anchors,
    size,
    variant='master',
    seen=PREFILL,
    thresh=0.6,
    rescore=True,
    bias_match=True,
    softmax_classes=True,
    focal=False,
    object_scale=5.0,
    noobject_scale=1.0,
    class_scale=1.0,
    coord_scale=1.0,
    stride=32,
):
    """Deltas of a batch.

    Args:
        maps (list): ``maps[b][j][i][a]`` are the raw 5 + C numbers of an image's slot.
        truths (list): For each image its boxes as corners in pixels.
        labels (list): For each image their classes.
        anchors (list): (width, height) in cells.
        size (tuple): (rows, columns).
        variant (str): 'master', 'alexeyab' or 'logistic'.
        seen (int): Training images, the present ones included.

    Returns:
        list: The deltas, nested as ``maps``.
    """
    return [
        _image_delta(*image, anchors, size, variant, seen, thresh, rescore, bias_match,
                     softmax_classes, focal, object_scale, noobject_scale, class_scale,
                     coord_scale, stride)
        for image in zip(maps, truths, labels)
    ]  # fmt: skip


def _image_delta(
    image, truths, labels, anchors, size, variant, seen, thresh, rescore, bias_match,
    softmax_classes, focal, object_scale, noobject_scale, class_scale, coord_scale, stride,
):  # fmt: skip
    rows, columns = size
    width, height = columns * stride, rows * stride

    def slope(p):
        return 1.0 if variant == 'logistic' else p * (1 - p)

    def coordinates(raw, target, scale):
        """Deltas of tx, ty, tw, th towards a target in the same units (x, y after the sigmoid)."""
        out = []
        for t, goal in zip(raw[:2], target[:2]):
            p = sigmoid(t)
            out.append(scale * (goal - p) * slope(p))
        return out + [scale * (goal - t) for t, goal in zip(raw[2:4], target[2:])]

    delta = [[[[0.0] * len(slot) for slot in cell] for cell in row] for row in image]
    boxes = {}
    for j in range(rows):
        for i in range(columns):
            for a, anchor in enumerate(anchors):
                raw = image[j][i][a]
                box = boxes[j, i, a] = decode(raw, i, j, anchor, stride)
                best = max((iou(box, truth) for truth in truths), default=0.0)
                p = sigmoid(raw[4])
                if best <= thresh:
                    delta[j][i][a][4] = noobject_scale * (0 - p) * slope(p)
                if seen < PREFILL:
                    delta[j][i][a][:4] = coordinates(raw, (0.5, 0.5, 0.0, 0.0), 0.01)

    owned = set()
    for truth, label in zip(truths, labels):
        w, h = truth[2] - truth[0], truth[3] - truth[1]
        x, y = (truth[0] + truth[2]) / 2 / stride, (truth[1] + truth[3]) / 2 / stride
        i, j = min(int(x), columns - 1), min(int(y), rows - 1)
        best_iou, a = 0.0, 0
        for number, anchor in enumerate(anchors):
            shape = (anchor[0] * stride, anchor[1] * stride)
            if not bias_match:
                box = boxes[j, i, number]
                shape = (box[2] - box[0], box[3] - box[1])
            overlap = iou((0, 0, w, h), (0, 0, *shape))
            if overlap > best_iou:
                best_iou, a = overlap, number
        raw, out = image[j][i][a], delta[j][i][a]
        scale = coord_scale
        if variant != 'alexeyab':
            scale *= 2 - w * h / (width * height)
        target = (
            x - i,
            y - j,
            math.log(w / stride / anchors[a][0]),
            math.log(h / stride / anchors[a][1]),
        )
        out[:4] = coordinates(raw, target, scale)
        p = sigmoid(raw[4])
        goal = iou(boxes[j, i, a], truth) if rescore else 1.0
        out[4] = object_scale * (goal - p) * slope(p)

        if softmax_classes:
            p = softmax(raw[5:])
            factor = class_scale
            if focal:
                pt = p[label]
                factor *= -0.5 * (1 - pt) * (2 * pt * math.log(pt) + pt - 1)
            out[5:] = [factor * ((c == label) - p[c]) for c in range(len(p))]
        elif (j, i, a) in owned:
            # A second truth on the slot adds its class, and leaves the others.
            out[5 + label] = class_scale * (1 - sigmoid(raw[5 + label]))
        else:
            out[5:] = [class_scale * ((c == label) - sigmoid(z)) for c, z in enumerate(raw[5:])]
        owned.add((j, i, a))
    return delta
