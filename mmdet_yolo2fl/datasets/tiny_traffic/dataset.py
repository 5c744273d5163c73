"""The rendered street scenes as a data set of MMDetection."""

from collections.abc import Sequence
from pathlib import Path

from mmdet.datasets import CocoDataset
from mmdet.registry import DATASETS

from .make import CLASSES, Recipe, default_root, make_tiny_traffic


@DATASETS.register_module()
class TinyTrafficDataset(CocoDataset):
    """Street scenes, rendered by this package on first use and kept in the user's cache folder.

    Four classes with a long tail (car, truck, pedestrian, cyclist) at several scales, by day and
    at dusk, cut by each other and by the border, among trees, signs, lamps and other things that
    are not labelled. Boxes are tight around what can be seen. The same arguments give the same
    images (as long as the versions of NumPy and OpenCV stay the same).

    Nothing is rendered with ``lazy_init=True`` before ``full_init()``. ``ann_file``, an
    attribute, is the path of the annotation file, in COCO's format.

    Args:
        split (str): 'train', 'val' or 'test'. Defaults to 'train'.
        num_images (int, optional): Defaults to 3000 for 'train', 250 for the others.
        image_size (Sequence[int]): Width and height in pixels, at least 64 each. Objects grow
            with it. Defaults to (416, 256).
        seed (int): Another seed gives other images. Defaults to 0.
        class_frequencies (Sequence[float]): Share of each class among the objects, scaled to a
            sum of 1. Defaults to (0.80, 0.10, 0.06, 0.04).
        data_root (str, optional): The folder that holds the sets; each gets its own folder in
            it. Defaults to ``tiny_traffic`` in the folder named by the environment variable
            ``MMDET_YOLO2FL_DATA`` or else in the user's cache folder.
        **kwargs: The other arguments of MMDetection's ``CocoDataset``, such as ``pipeline``,
            ``metainfo`` (to choose among the classes), ``filter_cfg``, ``indices``,
            ``test_mode``, ``lazy_init``. Not ``ann_file`` and ``data_prefix``.

    Raises:
        ValueError: If an argument is not as described.
    """

    METAINFO = dict(
        classes=CLASSES,
        palette=[(30, 110, 230), (245, 150, 30), (220, 40, 60), (50, 180, 75)],
    )

    def __init__(
        self,
        split: str = 'train',
        num_images: int | None = None,
        image_size: Sequence[int] = (416, 256),
        seed: int = 0,
        class_frequencies: Sequence[float] = (0.80, 0.10, 0.06, 0.04),
        data_root: str | Path | None = None,
        **kwargs,
    ) -> None:
        for key in ('ann_file', 'data_prefix'):
            if kwargs.pop(key, None):
                raise ValueError(
                    f'TinyTrafficDataset takes no {key}: it makes its own files. Choose what it '
                    'makes with split, num_images, image_size, seed and class_frequencies, or '
                    'load existing files with CocoDataset.'
                )
        self.recipe = dict(
            split=split,
            num_images=num_images,
            image_size=image_size,
            seed=seed,
            class_frequencies=class_frequencies,
        )
        self.root = Path(data_root).expanduser() if data_root else default_root()
        super().__init__(
            data_root=str(self.root / Recipe(**self.recipe).name),
            ann_file='annotations.json',
            data_prefix=dict(img='images'),
            **kwargs,
        )

    def load_data_list(self):
        """Renders the set if it is not there, then loads its annotations.

        Raises:
            ValueError: If the classes chosen are none of it, or in another order.
        """
        chosen = list(self.metainfo['classes'])
        if chosen != [name for name in CLASSES if name in chosen]:
            raise ValueError(
                f'TinyTrafficDataset: metainfo.classes must be some of {CLASSES}, in that order '
                f'(MMDetection would mix them up), got {chosen}'
            )
        make_tiny_traffic(self.root, **self.recipe)
        return super().load_data_list()
