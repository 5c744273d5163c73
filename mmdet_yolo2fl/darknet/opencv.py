"""A converted detector in OpenCV's DNN module, and how its outputs compare with PyTorch's."""

from pathlib import Path

import cv2
import torch
from torch import Tensor, nn


class OpenCVNetwork:
    """OpenCV's reader of Darknet files; OpenCV 5 has lost it.

    Args:
        cfg (str | Path): Written with ``--for-opencv``.
        weights (str | Path): Likewise.

    Raises:
        ImportError: If this OpenCV cannot read Darknet files.
    """

    def __init__(self, cfg: str | Path, weights: str | Path) -> None:
        if not hasattr(cv2.dnn, 'readNetFromDarknet'):
            raise ImportError(
                f'OpenCV {cv2.__version__} cannot read Darknet files: pip install "opencv-python<5"'
            )
        self.net = cv2.dnn.readNetFromDarknet(str(cfg), str(weights))
        self.net.setPreferableBackend(cv2.dnn.DNN_BACKEND_OPENCV)
        self.last_convolution = [
            name for name in self.net.getLayerNames() if name.startswith('conv_')
        ][-1]

    def prediction_map(self, inputs: Tensor) -> Tensor:
        """The map before the region layer.

        Args:
            inputs (Tensor): ``(N, C, H, W)`` on the CPU, red first, in 0..1.

        Returns:
            Tensor: ``(N, A*(5+C), H/S, W/S)`` of stride S, as :meth:`YOLOV2Head.forward` has it.
        """
        self.net.setInput(inputs.numpy())
        return torch.from_numpy(self.net.forward(self.last_convolution).copy())

    def region(self, inputs: Tensor) -> Tensor:
        """The region layer's output for one image.

        Args:
            inputs (Tensor): ``(1, C, H, W)``.

        Returns:
            Tensor: ``(S, 5+C)``: centre, width and height relative to the input, objectness,
            and scores of the classes: 0 below ``thresh`` and where OpenCV's own NMS (0.4) has
            suppressed them.
        """
        self.net.setInput(inputs.numpy())
        return torch.from_numpy(self.net.forward().copy())


def use_opencv(model: nn.Module, network: OpenCVNetwork) -> nn.Module:
    """Let a detector take its prediction map from OpenCV; decoding and NMS stay its own."""
    model.extract_feat = lambda inputs: (inputs,)
    model.bbox_head.forward = lambda feats: (network.prediction_map(feats[-1].cpu()),)
    return model


@torch.no_grad()
def largest_differences(
    model: nn.Module, network: OpenCVNetwork, inputs: Tensor, thresh: float
) -> dict[str, float]:
    """Compare a detector with OpenCV on one image.

    Args:
        model (nn.Module): The detector, in evaluation mode.
        network (OpenCVNetwork): The same, converted with the score threshold ``thresh``.
        inputs (Tensor): ``(1, C, H, W)``, red first, in 0..1.
        thresh (float): The score threshold of the cfg.

    Returns:
        dict[str, float]: For the raw map, the boxes, the objectness and those scores that OpenCV
        kept: the largest difference, divided by the largest magnitude. And ``kept``, the number
        of those scores; ``lost``, how many scores OpenCV kept that PyTorch has below ``thresh``.
    """
    head = model.bbox_head
    pred_map = head(model.extract_feat(inputs))[0]
    height, width = pred_map.shape[-2:]
    meta = dict(batch_input_shape=tuple(inputs.shape[-2:]))
    pred, priors, _ = head._flatten(pred_map, [meta])
    corners = head._decode(pred, priors)[0]
    side = corners.new_tensor([width * head.stride, height * head.stride])
    centre, size = (corners[:, :2] + corners[:, 2:]) / 2, corners[:, 2:] - corners[:, :2]
    ours = torch.cat([centre / side, size / side], 1)
    scores = head._scores(pred)[0]
    theirs = network.region(inputs)
    kept = theirs[:, 5:] > 0
    return dict(
        map=_relative(network.prediction_map(inputs), pred_map),
        boxes=_relative(theirs[:, :4], ours),
        objectness=_relative(theirs[:, 4], pred[0, :, 4].sigmoid()),
        scores=_relative(theirs[:, 5:][kept], scores[kept]) if kept.any() else 0.0,
        kept=int(kept.sum()),
        lost=int((scores[kept] < thresh * 0.999).sum()),
    )


def _relative(theirs: Tensor, ours: Tensor) -> float:
    return float((theirs - ours).abs().max() / ours.abs().max())
