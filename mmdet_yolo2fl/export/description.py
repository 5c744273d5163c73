"""What a program must know that runs an exported detector."""

from collections.abc import Mapping, Sequence

import cv2
import numpy as np
from mmengine.config import Config
from mmengine.utils import to_2tuple
from torch import Tensor, nn

from ..config_parts import type_name, unwrapped
from ..inference.inferencer import reading_flag
from ..resizing import IN_WORDS, how_resized
from .networks import input_channels


def describe(cfg: Config, detector: nn.Module, classes: Sequence[str], size: tuple) -> dict:
    """Classes, anchors, preprocessing and thresholds, for a JSON file beside the exports.

    Args:
        cfg (Config): Of the detector.
        detector (nn.Module): The detector.
        classes (Sequence[str]): Names.
        size (tuple[int, int]): Width and height of the input that it was made for, in pixels.

    Returns:
        dict: Of plain values.
    """
    head, stride = detector.bbox_head, detector.bbox_head.stride
    pre = detector.data_preprocessor
    normalize = getattr(pre, '_enable_normalize', False)
    channels = input_channels(detector)
    test_cfg = head.test_cfg
    return dict(
        classes=list(classes),
        input=dict(
            name='images',
            layout='NCHW',
            dtype='float32',
            # Images come as BGR, as OpenCV reads them.
            channels=('RGB' if pre._channel_conversion else 'BGR') if channels == 3 else 'grey',
            size=list(size),
            # Where a file leaves its size free (formats.py); one for 320x240 does not.
            multiple_of=32 if all(side % 32 == 0 for side in size) else 1,
            # (pixel in 0..255 - mean) / std
            mean=pre.mean.flatten().tolist() if normalize else [0.0] * channels,
            std=pre.std.flatten().tolist() if normalize else [1.0] * channels,
            **how_resized(cfg),
            # Whether a photo is turned as its camera has noted in EXIF.
            exif=reading_flag(cfg) == 'color',
            **_kept_ratio(cfg, pre, channels),
        ),
        map=dict(
            order='for each anchor: tx, ty, tw, th, to, class logits',
            stride=stride,
            anchors=[[w / stride, h / stride] for w, h in head.prior_generator.base_sizes[0]],
            objectness=not head.joint,
            class_activation='sigmoid' if head.use_sigmoid_cls else 'softmax',
        ),
        boxes='x1, y1, x2, y2 in pixels of the input',
        score_thr=float(test_cfg.get('score_thr', 0.0)),
        # If >= 0: width and height of a box, cut off at the photo's borders, exceed so many of
        # its pixels.
        min_bbox_size=float(test_cfg.get('min_bbox_size', -1)),
        nms_iou_threshold=float(suppression_iou(test_cfg.nms)),
        class_agnostic=bool(test_cfg.nms.get('class_agnostic', False)),
        max_per_img=int(test_cfg.max_per_img),
    )


def check_description(about: dict, photo: np.ndarray, made: Tensor) -> None:
    """Make the input of the network as the description tells it, and look whether it is the same.

    Of a letterbox, and of images resized otherwise than by OpenCV, nothing is made.

    Args:
        about (dict): Of :func:`describe`.
        photo (np.ndarray): ``(H, W, 3)`` BGR, 0..255, as ``cv2.imread`` reads it.
        made (Tensor): ``(1, C, H, W)``, what the test pipeline and the detector make of it.

    Raises:
        ValueError: If they differ by more than one of 255 levels in the mean, in grey by three.
    """
    told = about['input']
    if told['interpolation'] != 'bilinear' or told['resize'] == IN_WORDS['letterbox']:
        return
    full = made.shape[:1:-1]
    size = filled = full
    if told['resize'] == IN_WORDS['keep_ratio']:
        size = _kept_size(told, photo)
        filled = _filled_size(told, size)
    if tuple(filled) != tuple(full) or size[0] > full[0] or size[1] > full[1]:
        raise ValueError(
            f'a photo of {photo.shape[1]}x{photo.shape[0]} would be resized to {size[0]}x{size[1]} '
            f'and filled up to {filled[0]}x{filled[1]} by what the description tells, but the '
            f'input is {full[0]}x{full[1]}: pad once, to multiples of pad_size_divisor'
        )
    pixels = cv2.resize(photo, size)
    grey = np.floor(pixels @ (0.114, 0.587, 0.299))
    channels = dict(RGB=pixels[..., ::-1], BGR=pixels, grey=grey)[told['channels']]
    expected = np.empty((*full[::-1], made.shape[1]))
    expected[:] = told.get('padding', 0)
    expected[: size[1], : size[0]] = np.atleast_3d(channels)
    expected = (expected - told['mean']) / told['std']
    levels = np.abs(expected.transpose(2, 0, 1) - made[0].numpy()) * np.reshape(
        told['std'], (-1, 1, 1)
    )
    # Files of grey are decoded otherwise where colours are strong.
    if levels.mean() > (3 if told['channels'] == 'grey' else 1):
        raise ValueError(
            'the test pipeline changes an image in a way that the description cannot tell: resized '
            f'and normalized as it says, pixels differ by {levels.mean():.0f} of 255. A '
            'program that runs the files would feed other images. Leave out what is not Resize '
            '(by OpenCV, bilinear), and have the data_preprocessor normalize'
        )


def _kept_ratio(cfg: Config, pre: nn.Module, channels: int) -> dict[str, list]:
    """Where the ratio is kept: what a photo has to fit into, and how, to what size it is filled up,
    and by what, a pixel in the order of its channels, before it is normalized. (The letterbox's
    grey stands with its name.)"""
    if how_resized(cfg)['resize'] != IN_WORDS['keep_ratio']:
        return {}
    pipeline = unwrapped(cfg.test_dataloader.dataset).pipeline
    pads = [step for step in pipeline if type_name(step) in ('Pad', 'FixShapeResize')]
    if pads:
        value = pads[-1].get('pad_val', 0)
        value = value.get('img', 0) if isinstance(value, dict) else value
        pixel = list(value) if isinstance(value, (list, tuple)) else channels * [value]
        # The step comes before the network turns BGR into RGB.
        pixel = pixel[::-1] if pre._channel_conversion else pixel
    else:  # the network pads what is normalized
        pixel = channels * [pre.pad_value]
        if getattr(pre, '_enable_normalize', False):
            pixel = (pre.mean + pre.std * pre.pad_value).flatten().tolist()
    about = dict(padding=[float(value) for value in pixel], padded_to=_padded_to(pads, pre))
    step = [step for step in pipeline if 'Resize' in type_name(step)][-1]
    scale = step.get('scale') or (step.get('width'), step.get('height'))
    if all(to_2tuple(scale)):
        fit = 'width and height' if type_name(step) == 'FixShapeResize' else 'long and short side'
        about |= dict(scale=list(to_2tuple(scale)), fit=fit)
    return about


def _padded_to(pads: Sequence[dict], pre: nn.Module) -> list[int] | int | str:
    """Width and height; or the number of which both are multiples; or 'square'."""
    if not pads:
        return int(pre.pad_size_divisor)
    step = pads[-1]
    if type_name(step) == 'FixShapeResize':
        return [int(step['width']), int(step['height'])]
    if step.get('size'):
        return list(step['size'])
    return 'square' if step.get('pad_to_square') else int(step.get('size_divisor') or 1)


def _kept_size(told: dict, photo: np.ndarray) -> tuple[int, int]:
    """Width and height of a photo where the ratio is kept, by what is told of it."""
    height, width = photo.shape[:2]
    if 'scale' not in told:
        return width, height
    across, down = told['scale']
    if told['fit'] == 'width and height':
        factor = min(across / width, down / height)
        # MMDetection has MMCV fit the photo into what it has rounded: up to a pixel less.
        across, down = int(width * factor + 0.5), int(height * factor + 0.5)
    factor = min(max(across, down) / max(width, height), min(across, down) / min(width, height))
    return int(width * factor + 0.5), int(height * factor + 0.5)


def _filled_size(told: dict, size: tuple[int, int]) -> tuple[int, int]:
    """Width and height of what a photo of a size is filled up to, by what is told of it."""
    padded_to = told['padded_to']
    if padded_to == 'square':
        return max(size), max(size)
    if isinstance(padded_to, int):
        return tuple(-(-side // padded_to) * padded_to for side in size)
    return tuple(padded_to)


def suppression_iou(nms: Mapping) -> float:
    """The threshold of an ``nms`` of the config; MMCV has an older name, and a default."""
    own = 0.3 if nms.get('type') == 'soft_nms' else None
    threshold = nms.get('iou_threshold', nms.get('iou_thr', own))
    if threshold is None:
        raise ValueError(f'test_cfg.nms has no iou_threshold: {dict(nms)}')
    return threshold
