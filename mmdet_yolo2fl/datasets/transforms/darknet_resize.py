"""Resizing and letterboxing as Darknet does them before it predicts."""

import mmcv
import numpy as np
import torch
from mmcv.transforms import BaseTransform
from mmdet.registry import TRANSFORMS
from mmdet.structures.bbox import autocast_box_type
from torch.nn import functional as F

GREY = 127.5  # 0.5 of Darknet's images, whose values lie in 0..1
INTERPOLATIONS = ('darknet', 'opencv')


def check_scale(owner: str, scale: tuple[int, int]) -> tuple[int, int]:
    """The size of the network input as a tuple, once it is known to be one.

    Args:
        owner (str): The class that was given it, for the error.
        scale (tuple[int]): ``(width, height)`` in pixels.

    Returns:
        tuple[int]: ``(width, height)``.

    Raises:
        ValueError: If it is not a pair of positive integers.
    """
    pair = tuple(scale) if isinstance(scale, (tuple, list)) else ()
    if len(pair) != 2 or not all(isinstance(side, int) and side > 0 for side in pair):
        raise ValueError(
            f'{owner}: scale must be (width, height), two positive integers, got {scale!r}'
        )
    return pair


def letterbox_size(width: int, height: int, scale: tuple[int, int]) -> tuple[int, int]:
    """The largest size of an image's aspect in a network input (``letterbox_image``, image.c).

    Args:
        width (int): Of the image, in pixels.
        height (int): Of the image, in pixels.
        scale (tuple[int]): ``(width, height)`` of the network input.

    Returns:
        tuple[int]: ``(width, height)``, rounded down as Darknet's integers are; at least 1.
    """
    net_width, net_height = scale
    if net_width * height < net_height * width:
        return net_width, max(height * net_width // width, 1)
    return max(width * net_height // height, 1), net_height


def resize_corner_aligned(img: np.ndarray, scale: tuple[int, int]) -> np.ndarray:
    """Bilinear interpolation that keeps the corner pixels in place (``resize_image``, image.c).

    Args:
        img (np.ndarray): ``(H, W)`` or ``(H, W, C)``, of any real type.
        scale (tuple[int]): ``(width, height)`` to resize to.

    Returns:
        np.ndarray: float32, not rounded, with as many dimensions as the input.
    """
    width, height = scale
    planes = torch.from_numpy(np.ascontiguousarray(img, dtype=np.float32))
    planes = planes.reshape(*img.shape[:2], -1).permute(2, 0, 1)[None]
    resized = F.interpolate(planes, size=(height, width), mode='bilinear', align_corners=True)
    resized = resized[0].permute(1, 2, 0).contiguous().numpy()
    return resized.reshape(height, width, *img.shape[2:])


@TRANSFORMS.register_module()
class DarknetResize(BaseTransform):
    """Bring an image to the size of the network as Darknet does.

    Darknet's master letterboxes: the image keeps its aspect and lies in the middle of a grey
    canvas. AlexeyAB's fork stretches it (``letterbox=False``), by OpenCV's interpolation.

    Reads ``img`` and, if there, ``gt_bboxes``. Writes

    - ``img``: ``(height, width)`` of ``scale``, with the channels that it had. float32, in
      0..255 if the image was; a plain resize by OpenCV keeps the type;
    - ``img_shape``: ``(height, width)`` of the network input, the grey included;
    - ``scale_factor``: ``(x, y)``, from pixels of the original to pixels of the input;
    - ``pad_offset``: ``(x, y)`` of the original's corner in the network input, in pixels.
      Half a pixel is kept, although the image is placed at whole pixels: it is so that Darknet
      maps its boxes back (``correct_region_boxes``, region_layer.c). ``(0.0, 0.0)`` without
      letterbox;
    - ``gt_bboxes``: by ``scale_factor`` and ``pad_offset``, so that the head's way back ends
      where they began.

    ``PackDetInputs`` must list 'pad_offset' in its ``meta_keys``: the head needs it.

    Args:
        scale (tuple[int]): ``(width, height)`` of the network input.
        letterbox (bool): Keep the aspect, on grey. Defaults to True.
        interpolation (str): 'darknet', bilinear with the corner pixels aligned and nothing
            rounded, or 'opencv', ``cv2.INTER_LINEAR`` on the image as it is. Defaults to
            'darknet'.

    Raises:
        ValueError: If an argument is none of these.
    """

    def __init__(
        self, scale: tuple[int, int], letterbox: bool = True, interpolation: str = 'darknet'
    ) -> None:
        self.scale = check_scale('DarknetResize', scale)
        if interpolation not in INTERPOLATIONS:
            raise ValueError(
                f'DarknetResize: interpolation must be one of {INTERPOLATIONS}, '
                f'got {interpolation!r}'
            )
        self.letterbox = letterbox
        self.interpolation = interpolation

    @autocast_box_type()
    def transform(self, results: dict) -> dict:
        """Resize an image and its boxes; see the class."""
        img = results['img']
        height, width = img.shape[:2]
        net_width, net_height = self.scale
        size = letterbox_size(width, height, self.scale) if self.letterbox else self.scale
        new_width, new_height = size

        if self.interpolation == 'darknet':
            resized = resize_corner_aligned(img, size)
        else:  # OpenCV drops a single channel
            resized = mmcv.imresize(img, size).reshape(new_height, new_width, *img.shape[2:])
        if self.letterbox:
            left, top = (net_width - new_width) // 2, (net_height - new_height) // 2
            canvas = np.full((net_height, net_width, *img.shape[2:]), GREY, dtype=np.float32)
            canvas[top : top + new_height, left : left + new_width] = resized
            resized = canvas

        results['img'] = resized
        results['img_shape'] = (net_height, net_width)
        results['scale_factor'] = (new_width / width, new_height / height)
        results['keep_ratio'] = self.letterbox
        results['pad_offset'] = ((net_width - new_width) / 2, (net_height - new_height) / 2)
        if results.get('gt_bboxes') is not None:
            results['gt_bboxes'].rescale_(results['scale_factor'])
            results['gt_bboxes'].translate_(results['pad_offset'])
        return results

    def __repr__(self) -> str:
        return (
            f'{type(self).__name__}(scale={self.scale}, letterbox={self.letterbox}, '
            f'interpolation={self.interpolation!r})'
        )
