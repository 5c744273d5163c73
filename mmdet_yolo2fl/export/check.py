"""Does what was exported find what PyTorch finds?"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from mmengine.config import ConfigDict
from mmengine.structures import InstanceData
from torch import Tensor, nn


@dataclass
class Comparison:
    """Of two lists of boxes.

    Attributes:
        boxes (int): How many the first has.
        unmatched (int): Of either, without one of the same class in the other that has the same
            box to a thousandth of the image's size and the same score to 0.001. A box whose score
            lies within 1e-4 of the threshold does not count.
        score (float): Largest difference of scores of matches.
        box (float): Largest difference of corners of matches, relative to the image's size.
    """

    boxes: int = 0
    unmatched: int = 0
    score: float = 0.0
    box: float = 0.0

    @property
    def equal(self) -> bool:
        """All boxes matched, and scores and corners to 1e-4."""
        return self.unmatched == 0 and self.score <= 1e-4 and self.box <= 1e-4

    def add(self, first: InstanceData, second: InstanceData, size: int, threshold: float) -> None:
        """Compare the boxes of one image.

        Args:
            first, second (InstanceData): ``bboxes``, ``scores``, ``labels``.
            size (int): The larger side of the image, in pixels.
            threshold (float): Least score of either.
        """
        self.boxes += len(first)
        score = (first.scores[:, None] - second.scores).abs()
        box = (first.bboxes[:, None] - second.bboxes).abs().amax(-1) / size
        other = first.labels[:, None] != second.labels
        distance = torch.maximum(score, box).masked_fill(other, torch.inf)
        for axis, mine in ((1, first), (0, second)):
            if distance.shape[axis]:
                nearest = distance.amin(axis)
            else:
                nearest = torch.full((len(mine),), torch.inf)
            lost = (nearest > 1e-3) & (mine.scores > threshold + 1e-4)
            self.unmatched += int(lost.sum())
        if distance.numel():
            best, at = distance.min(1)
            rows = torch.arange(len(at))[best <= 1e-3]
            if len(rows):
                at = at[rows]
                self.score = max(self.score, float(score[rows, at].max()))
                self.box = max(self.box, float(box[rows, at].max()))


def compare(
    detector: nn.Module, predict: Callable[[Tensor], list[InstanceData]], batches: list[Tensor]
) -> Comparison:
    """Boxes of PyTorch and of something else, in pixels of the input.

    Args:
        detector (nn.Module): A YOLOv2 in evaluation mode.
        predict (Callable): ``(N, C, H, W)`` images, normalized, to ``bboxes``, ``scores`` and
            ``labels`` of each.
        batches (list[Tensor]): Such images.
    """
    result, threshold = Comparison(), detector.bbox_head.test_cfg.get('score_thr', 0.0)
    for images in batches:
        expected, found = predict_by_pytorch(detector, images), predict(images)
        for first, second in zip(expected, found, strict=True):
            result.add(first, second, max(images.shape[-2:]), threshold)
    return result


@torch.no_grad()
def predict_by_pytorch(detector: nn.Module, images: Tensor) -> list[InstanceData]:
    """What MMDetection's model finds, in pixels of the input."""
    outputs = dict(map=detector.bbox_head(detector.extract_feat(images))[0])
    return interpret(outputs, detector.bbox_head, images)


def with_nms(
    boxes: Tensor, scores: Tensor, head: nn.Module, shape: tuple[int, int]
) -> list[InstanceData]:
    """Suppress decoded boxes as the head does.

    Args:
        boxes (Tensor): ``(N, S, 4)``.
        scores (Tensor): ``(N, C, S)``.
        head (nn.Module): With the ``test_cfg``.
        shape (tuple[int, int]): Height and width of the input: boxes are clipped to it.
    """
    found = []
    for own, score in zip(boxes, scores):
        label, slot = (score > head.test_cfg.get('score_thr', 0.0)).nonzero(as_tuple=True)
        kept = InstanceData(bboxes=own[slot], scores=score[label, slot], labels=label)
        kept = head._bbox_post_process(kept, _all_sizes(head), False, True, {})
        found.append(clip(kept, shape))
    return found


def _all_sizes(head: nn.Module) -> ConfigDict:
    """Its ``test_cfg``, but for the least size of a box, which is counted in the photo."""
    return ConfigDict(head.test_cfg, min_bbox_size=-1)


def in_photo(boxes: Tensor, sample) -> Tensor:
    """Boxes of the network's input in pixels of the photo, cut off at its borders.

    Args:
        boxes (Tensor): ``(n, 4)`` corners in pixels.
        sample (DetDataSample): Of the photo.
    """
    boxes = boxes - boxes.new_tensor(sample.get('pad_offset', (0.0, 0.0))).repeat(2)
    boxes = boxes / boxes.new_tensor(sample.scale_factor).repeat(2)
    return torch.minimum(boxes.clamp(min=0), boxes.new_tensor(sample.ori_shape[1::-1]).repeat(2))


def clip(found: InstanceData, shape: tuple[int, int]) -> InstanceData:
    """Boxes cut off at the borders of the image, as the head does it last."""
    found.bboxes = torch.minimum(
        found.bboxes.clamp(min=0), found.bboxes.new_tensor([shape[1], shape[0]] * 2)
    )
    return found


def session(path: Path, threads: int | None = None):
    """ONNX Runtime's ``InferenceSession`` of a file, on the processor.

    Args:
        path (Path): An ONNX file.
        threads (int, optional): Defaults to as many as ONNX Runtime likes.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    if threads is not None:
        options.intra_op_num_threads = threads
        # Its threads shall not wait, spinning, while another one is timed.
        options.add_session_config_entry('session.force_spinning_stop', '1')
    providers = ['CPUExecutionProvider']
    return onnxruntime.InferenceSession(str(path), options, providers=providers)


def onnx_runner(path: Path, detector: nn.Module) -> Callable[[Tensor], list[InstanceData]]:
    """A function for :func:`compare` that runs an ONNX file of ours by ONNX Runtime."""
    network = session(path)
    names = [output.name for output in network.get_outputs()]
    head = detector.bbox_head

    def predict(images: Tensor) -> list[InstanceData]:
        outputs = network.run(None, {'images': images.numpy()})
        tensors = dict(zip(names, map(torch.from_numpy, map(np.ascontiguousarray, outputs))))
        return interpret(tensors, head, images)

    return predict


def torch_runner(path: Path, detector: nn.Module) -> Callable[[Tensor], list[InstanceData]]:
    """The same for a ``torch.export`` program."""
    program = torch.export.load(path).module()

    def predict(images: Tensor) -> list[InstanceData]:
        with torch.no_grad():
            boxes, scores = program(images)
        return interpret(dict(boxes=boxes, scores=scores), detector.bbox_head, images)

    return predict


def interpret(outputs: dict[str, Tensor], head: nn.Module, images: Tensor) -> list[InstanceData]:
    """Boxes of each image from whatever outputs a file has."""
    shape = tuple(images.shape[-2:])
    if 'map' in outputs:
        meta = dict(img_shape=shape, batch_input_shape=shape, scale_factor=(1.0, 1.0))
        cfg = dict(_all_sizes(head), nms_pre=-1)
        return head.predict_by_feat(outputs['map'], [meta] * len(images), cfg)
    if 'image' not in outputs:
        return with_nms(outputs['boxes'], outputs['scores'], head, shape)
    found = []
    for number in range(len(images)):
        own = outputs['image'] == number
        kept = InstanceData(
            bboxes=outputs['boxes'][own],
            scores=outputs['scores'][own],
            labels=outputs['labels'][own],
        )
        best = kept.scores.argsort(descending=True)[: head.test_cfg.max_per_img]
        found.append(clip(kept[best], shape))
    return found
