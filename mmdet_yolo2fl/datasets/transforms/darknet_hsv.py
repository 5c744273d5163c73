"""Darknet's random change of hue, saturation and exposure."""

import cv2
import numpy as np
from mmcv.transforms import BaseTransform
from mmcv.transforms.utils import cache_randomness
from mmdet.registry import TRANSFORMS


def random_scale(limit: float) -> float:
    """A factor in ``1..limit`` or, as often, the inverse of one (``rand_scale``, utils.c)."""
    scale = np.random.uniform(1, limit)
    return scale if np.random.randint(2) else 1 / scale


# MMDetection's YOLOXHSVRandomAug adds to saturation and value; PhotoMetricDistortion draws factors
# symmetric about 1 and shuffles the channels. Darknet's factors are other ones.
@TRANSFORMS.register_module()
class DarknetHSV(BaseTransform):
    """Shift the hue, scale saturation and value (``random_distort_image``, image.c).

    Values beyond the range are cut off after the way back to colours, as in Darknet. Grey images
    only have their exposure changed, as in AlexeyAB's fork.

    Reads and writes ``img``: ``(H, W)``, ``(H, W, 1)``, or ``(H, W, 3)`` in OpenCV's order BGR;
    uint8 or float32 in 0..255, and what it was it stays.

    Args:
        hue (float): The shift is uniform in ``-hue..hue``, in turns of the colour circle.
            Defaults to 0.1.
        saturation (float): The factor is uniform in ``1..saturation``, or, as often, the inverse
            of such a factor. At least 1. Defaults to 1.5.
        exposure (float): Likewise, of the value. At least 1. Defaults to 1.5.

    Raises:
        ValueError: If an argument is out of its range.
    """

    def __init__(self, hue: float = 0.1, saturation: float = 1.5, exposure: float = 1.5) -> None:
        if not 0 <= hue <= 1:
            raise ValueError(f'DarknetHSV: hue must lie in 0..1, got {hue}')
        for name, value in dict(saturation=saturation, exposure=exposure).items():
            if value < 1:
                raise ValueError(f'DarknetHSV: {name} must be at least 1, got {value}')
        self.hue = hue
        self.saturation = saturation
        self.exposure = exposure

    @cache_randomness
    def _random_changes(self) -> tuple[float, float, float]:
        """A shift of the hue in turns, and the factors of saturation and value."""
        shift = np.random.uniform(-self.hue, self.hue)
        return shift, random_scale(self.saturation), random_scale(self.exposure)

    def transform(self, results: dict) -> dict:
        """Change the colours of an image; see the class."""
        img = results['img']
        shift, saturation, exposure = self._random_changes()
        changed = img.astype(np.float32)
        if img.ndim == 3 and img.shape[2] == 3:
            hsv = cv2.cvtColor(changed, cv2.COLOR_BGR2HSV)  # degrees, 0..1, 0..255
            hsv[..., 0] = (hsv[..., 0] + 360 * shift) % 360
            hsv[..., 1] *= saturation
            hsv[..., 2] *= exposure
            changed = cv2.cvtColor(hsv, cv2.COLOR_HSV2BGR)
        else:
            changed *= exposure
        changed = changed.clip(0, 255)
        results['img'] = changed.round().astype(img.dtype) if img.dtype == np.uint8 else changed
        return results

    def __repr__(self) -> str:
        return (
            f'{type(self).__name__}(hue={self.hue}, saturation={self.saturation}, '
            f'exposure={self.exposure})'
        )
