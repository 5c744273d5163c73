"""YOLOv2's assignment and losses as plain loops over images, truths and slots.

Written from the equations (YOLO9000, section 2; Darknet's region layer), without the package.
"""

import math


def sigmoid(x):
    return 1 / (1 + math.exp(-x)) if x >= 0 else math.exp(x) / (1 + math.exp(x))


def iou(a, b):
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    inter = width * height
    return inter / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - inter)


def decode(t, i, j, anchor, stride=32):
    """Raw ``tx, ty, tw, th`` at column i, row j to corners in pixels; anchors in cells."""
    x, y = (i + sigmoid(t[0])) * stride, (j + sigmoid(t[1])) * stride
    w, h = anchor[0] * math.exp(t[2]) * stride, anchor[1] * math.exp(t[3]) * stride
    return (x - w / 2, y - h / 2, x + w / 2, y + h / 2)


def assign(boxes, truths, anchors, size, thresh=0.6, bias_match=True, ignored=(), stride=32):
    """``boxes[j][i][a]`` of one image to (owner by slot, kind by slot).

    Slots are ``(row, column, anchor)``; kinds are 'pos', 'neg' and 'ignore'.
    """
    height, width = size
    owner, kind = {}, {}
    for j in range(height):
        for i in range(width):
            for a in range(len(anchors)):
                best = max((iou(boxes[j][i][a], t) for t in truths), default=0.0)
                kind[j, i, a] = 'ignore' if best > thresh else 'neg'
                box = boxes[j][i][a]
                for t in ignored:
                    w = min(box[2], t[2]) - max(box[0], t[0])
                    h = min(box[3], t[3]) - max(box[1], t[1])
                    area = (box[2] - box[0]) * (box[3] - box[1])
                    if w > 0 and h > 0 and w * h / area > 0.5:
                        kind[j, i, a] = 'ignore'

    def slot_of(truth):
        i = min(int((truth[0] + truth[2]) / 2 / stride), width - 1)
        j = min(int((truth[1] + truth[3]) / 2 / stride), height - 1)
        w, h = truth[2] - truth[0], truth[3] - truth[1]
        best_iou, best = -1.0, None
        for a, anchor in enumerate(anchors):
            shape = (anchor[0] * stride, anchor[1] * stride)
            if not bias_match:
                box = boxes[j][i][a]
                shape = (box[2] - box[0], box[3] - box[1])
            value = iou((0, 0, w, h), (0, 0, *shape))
            if value > best_iou:
                best_iou, best = value, a
        return j, i, best

    for truth in ignored:
        kind[slot_of(truth)] = 'ignore'
    for number, truth in enumerate(truths):
        slot = slot_of(truth)
        owner[slot] = number
        kind[slot] = 'pos'
    return owner, kind


def losses(image, truths, labels, anchors, size, way, rescore=False, stride=32):
    """Summed losses of one image, by term; ``image[j][i][a]`` are the raw 5 + C numbers.

    ``way`` maps 'obj', 'cls', 'xy' and 'wh' to functions: obj(logit, target, is_positive),
    cls(logits, label), xy(logit, target), wh(value, target). Coordinates weigh 2 - w*h.
    """
    height, width = size
    cells = [(j, i, a) for j in range(height) for i in range(width) for a in range(len(anchors))]
    boxes = [
        [
            [decode(image[j][i][a], i, j, anchors[a], stride) for a in range(len(anchors))]
            for i in range(width)
        ]
        for j in range(height)
    ]
    owner, kind = assign(boxes, truths, anchors, size, stride=stride)
    total = dict(obj=0.0, cls=0.0, xy=0.0, wh=0.0)
    for j, i, a in cells:
        raw = image[j][i][a]
        if kind[j, i, a] == 'neg':
            total['obj'] += way['obj'](raw[4], 0.0, False)
        if kind[j, i, a] != 'pos':
            continue
        truth = truths[owner[j, i, a]]
        target = iou(boxes[j][i][a], truth) if rescore else 1.0
        total['obj'] += way['obj'](raw[4], target, True)
        total['cls'] += way['cls'](raw[5:], labels[owner[j, i, a]])
        w, h = truth[2] - truth[0], truth[3] - truth[1]
        scale = 2 - w * h / (width * stride * height * stride)
        x = (truth[0] + truth[2]) / 2 / stride - i
        y = (truth[1] + truth[3]) / 2 / stride - j
        total['xy'] += scale * (way['xy'](raw[0], x) + way['xy'](raw[1], y))
        tw, th = math.log(w / stride / anchors[a][0]), math.log(h / stride / anchors[a][1])
        total['wh'] += scale * (way['wh'](raw[2], tw) + way['wh'](raw[3], th))
    return total, len(owner)
