"""Noise, blur, weather and compression, to test how much a detector bears."""

import numpy as np
from mmcv.transforms import BaseTransform
from mmdet.registry import TRANSFORMS


class Corrupt(BaseTransform):
    """One of the corruptions of Michaelis et al. (2019), by the package ``imagecorruptions``.

    MMDetection's ``tools/analysis_tools/test_robustness.py`` puts it into the test pipeline;
    OneDL's distribution no longer has it. Registered only where MMDetection has none.

    Required key: ``img``, ``(H, W, 3)`` uint8, BGR. Changed: ``img``.

    Args:
        corruption (str): Such as 'gaussian_noise', 'motion_blur', 'fog', 'jpeg_compression'.
        severity (int): 1 (weak) to 5. Defaults to 1.

    Raises:
        ImportError: Without ``imagecorruptions``.
        ValueError: If there is no such corruption or severity.
    """

    def __init__(self, corruption: str, severity: int = 1) -> None:
        try:
            from imagecorruptions import corrupt, get_corruption_names
        except ImportError as error:
            raise ImportError(
                "Corrupt needs imagecorruptions: pip install imagecorruptions 'setuptools<81'"
            ) from error
        names = get_corruption_names('all')
        if corruption not in names:
            raise ValueError(f'Corrupt: there is no {corruption!r}; there are {", ".join(names)}')
        if severity not in range(1, 6):
            raise ValueError(f'Corrupt: severity must lie in 1..5, got {severity}')
        self._corrupt = corrupt
        self.corruption = corruption
        self.severity = severity

    def transform(self, results: dict) -> dict:
        """Corrupt ``results['img']``."""
        image = np.ascontiguousarray(results['img'][..., ::-1].astype(np.uint8))
        image = self._corrupt(image, corruption_name=self.corruption, severity=self.severity)
        results['img'] = np.ascontiguousarray(image[..., ::-1])
        return results

    def __repr__(self) -> str:
        return f'{type(self).__name__}(corruption={self.corruption!r}, severity={self.severity})'


if 'Corrupt' not in TRANSFORMS:
    TRANSFORMS.register_module()(Corrupt)
