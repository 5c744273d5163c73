"""Darknet's random distortion and shift of training images: master's way and the fork's."""

import mmcv
import numpy as np
from mmcv.transforms import BaseTransform
from mmcv.transforms.utils import cache_randomness
from mmdet.datasets.transforms import FilterAnnotations
from mmdet.registry import TRANSFORMS
from mmdet.structures.bbox import autocast_box_type

from .darknet_resize import GREY, check_scale, resize_corner_aligned

# The largest jitter of each at which an image is sure to keep a positive width and height.
JITTER_LIMITS = dict(master=1.0, alexeyab=0.5)


def place(img: np.ndarray, canvas: np.ndarray, left: int, top: int) -> None:
    """Lay an image on a canvas, which it may exceed on any side.

    Args:
        img (np.ndarray): ``(h, w)`` or ``(h, w, C)``.
        canvas (np.ndarray): ``(H, W)`` or ``(H, W, C)``; changed in place.
        left (int): Column of the canvas at which the image begins; may be negative.
        top (int): Row likewise.
    """
    rows = slice(max(top, 0), max(top + img.shape[0], 0))
    cols = slice(max(left, 0), max(left + img.shape[1], 0))
    target = canvas[rows, cols]
    first_row, first_col = max(-top, 0), max(-left, 0)
    target[...] = img[first_row:, first_col:][: target.shape[0], : target.shape[1]]


def resize_for_placing(img: np.ndarray, scale: tuple[int, int]) -> np.ndarray:
    """Bilinear interpolation of master's ``place_image`` (image.c).

    Column x of w shows column ``x * W / w`` of the original; beyond its last pixel lies black.
    With a black row and column added, that is corner-aligned interpolation to one pixel more.

    Args:
        img (np.ndarray): ``(H, W)`` or ``(H, W, C)``.
        scale (tuple[int]): ``(width, height)`` to resize to.

    Returns:
        np.ndarray: float32, ``(height, width)`` or ``(height, width, C)``.
    """
    width, height = scale
    padded = np.pad(img, [(0, 1), (0, 1)] + [(0, 0)] * (img.ndim - 2))
    return resize_corner_aligned(padded, (width + 1, height + 1))[:height, :width]


# MMDetection's RandomAffine has one scale for both sides, its Expand and RandomCrop never change
# the aspect, and MinIoURandomCrop rejects crops: no chain of them draws from this distribution.
@TRANSFORMS.register_module()
class DarknetJitter(BaseTransform):
    """Distort, shift and resize a training image to the network's size as Darknet does.

    master (``load_data_detection``, data.c, of pjreddie/darknet): the aspect becomes
    ``(w +- jitter * w) / (h +- jitter * h)``; at that aspect the image fills the longer of its
    sides in the network input, lies at random within it, and grey fills the rest. Nothing is
    cropped if the input is square. Boxes of less than 0.001 of the input's width or height are
    dropped.

    alexeyab (the same function of AlexeyAB/darknet, built with OpenCV): each side is cropped by
    up to ``jitter`` of the width or height, or extended as much with the image's mean colour,
    and the rest is stretched to the network input. Boxes of a pixel or less are dropped.

    In both, boxes are clipped to the input, and an image may be left with none.

    Reads ``img`` and, if there, ``gt_bboxes``, ``gt_bboxes_labels`` and ``gt_ignore_flags``.
    Writes them, ``img_shape`` and ``scale_factor``. With master ``img`` becomes float32.

    Args:
        scale (tuple[int]): ``(width, height)`` of the network input.
        jitter (float): Darknet's option of ``[region]``. Below 1 for master, below 0.5 for
            alexeyab. Defaults to 0.3.
        variant (str): 'master' or 'alexeyab'. Defaults to 'master'.

    Raises:
        ValueError: If an argument is none of these.
    """

    def __init__(
        self, scale: tuple[int, int], jitter: float = 0.3, variant: str = 'master'
    ) -> None:
        self.scale = check_scale('DarknetJitter', scale)
        if variant not in JITTER_LIMITS:
            raise ValueError(
                f'DarknetJitter: variant must be one of {tuple(JITTER_LIMITS)}, got {variant!r}'
            )
        if not 0 <= jitter < JITTER_LIMITS[variant]:
            raise ValueError(
                f'DarknetJitter: jitter must lie in [0, {JITTER_LIMITS[variant]}) for '
                f'{variant}, got {jitter}'
            )
        self.jitter = jitter
        self.variant = variant
        width, height = self.scale
        smallest = (0.001 * width, 0.001 * height) if variant == 'master' else (1, 1)
        # keep_empty=False is MMDetection's word for keeping an image without boxes
        self._drop_tiny = FilterAnnotations(min_gt_bbox_wh=smallest, keep_empty=False)

    @cache_randomness
    def _random_placement(self, width: int, height: int) -> tuple[float, float, float, float]:
        """Master's size and offset of the image in the network input."""
        net_width, net_height = self.scale
        aspect = self._jittered(width) / self._jittered(height)
        if aspect < 1:
            new_width, new_height = net_height * aspect, net_height
        else:
            new_width, new_height = net_width, net_width / aspect
        # In an input that is not square, the image may be the larger one: a negative offset.
        left = np.random.uniform(0, 1) * (net_width - new_width)
        top = np.random.uniform(0, 1) * (net_height - new_height)
        return new_width, new_height, left, top

    def _jittered(self, side: int) -> float:
        return side * (1 + np.random.uniform(-self.jitter, self.jitter))

    @cache_randomness
    def _random_margins(self, width: int, height: int) -> tuple[int, int, int, int]:
        """The fork's cropped pixels on the left, right, top and bottom; negative: added."""
        limits = [int(side * self.jitter) for side in (width, width, height, height)]
        return tuple(int(np.random.uniform(-limit, limit)) for limit in limits)

    @autocast_box_type()
    def transform(self, results: dict) -> dict:
        """Jitter an image and its boxes; see the class."""
        height, width = results['img'].shape[:2]
        if self.variant == 'master':
            new_width, new_height, left, top = self._random_placement(width, height)
            results['img'] = self._placed(results['img'], new_width, new_height, left, top)
            scale_factor = (new_width / width, new_height / height)
        else:
            margins = self._random_margins(width, height)
            results['img'], crop_size = self._cropped(results['img'], *margins)
            scale_factor = (self.scale[0] / crop_size[0], self.scale[1] / crop_size[1])
            left, top = -margins[0] * scale_factor[0], -margins[2] * scale_factor[1]

        results['img_shape'] = results['img'].shape[:2]
        results['scale_factor'] = scale_factor
        if results.get('gt_bboxes') is not None:
            results['gt_bboxes'].rescale_(scale_factor)
            results['gt_bboxes'].translate_((left, top))
            results['gt_bboxes'].clip_(results['img_shape'])
            results = self._drop_tiny(results)
        return results

    def _placed(
        self, img: np.ndarray, width: float, height: float, left: float, top: float
    ) -> np.ndarray:
        net_width, net_height = self.scale
        canvas = np.full((net_height, net_width, *img.shape[2:]), GREY, dtype=np.float32)
        # Pixels go to whole positions, boxes do not, as in Darknet.
        size = max(int(width), 1), max(int(height), 1)
        place(resize_for_placing(img, size), canvas, int(left), int(top))
        return canvas

    def _cropped(
        self, img: np.ndarray, left: int, right: int, top: int, bottom: int
    ) -> tuple[np.ndarray, tuple[int, int]]:
        height, width = img.shape[:2]
        size = (width - left - right, height - top - bottom)
        canvas = np.empty((size[1], size[0], *img.shape[2:]), dtype=img.dtype)
        mean = img.mean(axis=(0, 1))
        canvas[...] = mean.round() if img.dtype == np.uint8 else mean
        place(img, canvas, -left, -top)
        resized = mmcv.imresize(canvas, self.scale)
        return resized.reshape(self.scale[1], self.scale[0], *img.shape[2:]), size

    def __repr__(self) -> str:
        return (
            f'{type(self).__name__}(scale={self.scale}, jitter={self.jitter}, '
            f'variant={self.variant!r})'
        )
