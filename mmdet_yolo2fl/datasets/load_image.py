"""Loads an image, or says which one could not be loaded."""

import cv2
from mmcv.transforms import LoadImageFromFile
from mmdet.registry import TRANSFORMS
from PIL import UnidentifiedImageError

from ..annotation_files import TOLERANCE, check_lies_as_annotated


@TRANSFORMS.register_module()
class CheckedLoadImageFromFile(LoadImageFromFile):
    """MMCV's ``LoadImageFromFile``, which names the file whatever goes wrong.

    MMCV names a missing and a broken file; of an empty one, as an interrupted download leaves
    it, OpenCV complains without a name. For training pipelines: MMDetection's inference looks
    for ``LoadImageFromFile`` by name in the test pipeline.
    """

    def transform(self, results: dict) -> dict | None:
        """Load the image at ``results['img_path']``.

        Raises:
            FileNotFoundError: If there is no such file.
            ValueError: If it is no image that the decoder reads, if EXIF has laid it across its
                annotation, or if it has another size than annotated.
        """
        try:
            results = super().transform(results)
        except (cv2.error, AssertionError, UnidentifiedImageError) as error:
            raise ValueError(
                f'{results["img_path"]}: not an image that can be read (empty, cut off or of an '
                'unknown format). Repair it, or take it out of the annotations.'
            ) from error
        if results and results.get('width') and results.get('height'):
            annotated = results['width'], results['height']
            loaded = results['img_shape'][::-1]
            across = loaded == annotated[::-1] != annotated
            # Which looks into the file again; a pixel or two is common, and nothing.
            if across or any(abs(a / b - 1) > TOLERANCE for a, b in zip(loaded, annotated)):
                check_lies_as_annotated(results['img_path'], annotated, loaded)
        return results
