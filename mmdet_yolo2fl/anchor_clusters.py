"""Dimension clusters: anchors that fit the boxes of a data set (YOLO9000, section 2)."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import mmcv
import numpy as np
from mmdet.registry import DATASETS
from rich.console import Console
from rich.progress import track

from .config_parts import leaf_datasets, type_name
from .datasets.transforms.darknet_resize import letterbox_size
from .resizing import size_of, way_of
from .whole_files import write_png

# yolov2-voc.cfg
VOC_ANCHORS = (
    (1.3221, 1.73145),
    (3.19275, 4.00944),
    (5.05587, 8.09892),
    (9.47112, 4.84053),
    (11.2364, 10.0071),
)
MAX_POINTS = 50_000


class BoxSizes(NamedTuple):
    """The boxes of a training set at the input size.

    Attributes:
        sizes (np.ndarray): ``(N, 2)`` float64, widths and heights in pixels, all positive.
        scales (list[tuple[int, int]]): Width and height of the input, of each data set inside.
        num_images (int): Images that the data set has after its filter.
        num_ignored (int): Boxes left out because they are ignored (crowd, difficult).
        num_empty (int): Boxes left out because nothing of them has an area inside the image.
    """

    sizes: np.ndarray
    scales: list[tuple[int, int]]
    num_images: int
    num_ignored: int
    num_empty: int


def size_iou(sizes: np.ndarray, anchors: np.ndarray) -> np.ndarray:
    """IoU of boxes and anchors that share their centre.

    Args:
        sizes (np.ndarray): ``(N, 2)`` positive widths and heights.
        anchors (np.ndarray): ``(K, 2)`` in the same unit.

    Returns:
        np.ndarray: ``(N, K)`` in 0..1.
    """
    sizes, anchors = np.asarray(sizes, float)[:, None], np.asarray(anchors, float)[None]
    intersection = np.minimum(sizes, anchors).prod(-1)
    return intersection / (sizes.prod(-1) + anchors.prod(-1) - intersection)


def average_iou(sizes: np.ndarray, anchors: np.ndarray) -> float:
    """Mean over the boxes of the IoU with the closest anchor: table 1 of YOLO9000."""
    return float(size_iou(sizes, anchors).max(1).mean())


def cluster_anchors(
    sizes: np.ndarray, num_anchors: int = 5, restarts: int = 10, seed: int = 0
) -> np.ndarray:
    """k-means with the distance ``1 - IoU``; a centre is the mean of its boxes.

    Of more than 50,000 different boxes so many are drawn: COCO's would take minutes. The result
    depends on the boxes and the seed, not on the order of the boxes. The mean does not
    minimize this distance, so a step may make things worse: of all steps of all restarts the one
    with the highest average IoU is returned.

    Args:
        sizes (np.ndarray): ``(N, 2)`` positive widths and heights.
        num_anchors (int): How many clusters. Defaults to 5.
        restarts (int): Starts from other centres, drawn as k-means++ does. Defaults to 10.
        seed (int): Of these draws. Defaults to 0.

    Returns:
        np.ndarray: ``(num_anchors, 2)`` in the unit of ``sizes``, from small to large area.

    Raises:
        ValueError: If a size is not positive, or there are fewer distinct sizes, to 1e-6,
            than clusters.
    """
    sizes = np.asarray(sizes, float).reshape(-1, 2)
    if not (np.isfinite(sizes) & (sizes > 0)).all():
        raise ValueError('box sizes must be positive and finite')
    if num_anchors < 1 or restarts < 1:
        raise ValueError(
            f'num_anchors and restarts must be 1 or more, got {num_anchors}, {restarts}'
        )
    # Equal boxes at other places differ by rounding.
    points, counts = np.unique(sizes.round(6), axis=0, return_counts=True)
    if len(points) < num_anchors:
        raise ValueError(f'{num_anchors} anchors need as many distinct boxes, got {len(points)}')
    rng = np.random.default_rng(seed)
    if len(points) > MAX_POINTS:
        drawn = rng.choice(len(points), MAX_POINTS, p=counts / counts.sum())
        drawn, counts = np.unique(drawn, return_counts=True)
        points = points[drawn]
    best_iou, best = -1.0, None
    for _ in range(restarts):
        iou, centres = _kmeans(points, counts, _spread_centres(points, counts, num_anchors, rng))
        if iou > best_iou:
            best_iou, best = iou, centres
    return best[np.argsort(best.prod(1), kind='stable')]


def _spread_centres(points, counts, num_centres, rng) -> np.ndarray:
    """k-means++: each next centre is drawn in proportion to its distance from those before."""
    centres = points[rng.choice(len(points), 1, p=counts / counts.sum())]
    while len(centres) < num_centres:
        distance = counts * (1 - size_iou(points, centres).max(1)).clip(0)
        chosen = rng.choice(len(points), p=distance / distance.sum())
        centres = np.vstack([centres, points[chosen]])
    return centres


def _kmeans(points, counts, centres, max_steps: int = 300) -> tuple[float, np.ndarray]:
    """The highest average IoU on the way, and its centres."""
    best_iou, best, assigned = -1.0, centres, None
    for _ in range(max_steps):
        iou = size_iou(points, centres)
        closest = iou.argmax(1)
        mean_iou = np.average(iou.max(1), weights=counts)
        if mean_iou > best_iou:
            best_iou, best = mean_iou, centres
        if assigned is not None and (closest == assigned).all():
            break
        assigned = closest
        weight = np.bincount(closest, counts, len(centres))
        sums = [np.bincount(closest, counts * side, len(centres)) for side in points.T]
        # A centre that lost all its boxes stays where it is.
        means = np.stack(sums, 1) / np.maximum(weight, 1)[:, None]
        centres = np.where(weight[:, None] > 0, means, centres)
    return best_iou, best


def load_box_sizes(
    dataset: dict,
    input_size: tuple[int, int] | None = None,
    otherwise: tuple[int, int] | None = None,
) -> BoxSizes:
    """The boxes of a data set's config, scaled as its pipeline's resize step scales the images.

    Random steps (crops, flips, multi-scale training) are left out; each image counts once,
    whatever ``RepeatDataset`` and the like do. Images are read only where the annotations do not
    know their size.

    Args:
        dataset (dict): As ``train_dataloader.dataset`` has it, ``ConcatDataset`` and other
            wrappers included.
        input_size (tuple[int, int], optional): Width and height in place of the resize step's
            scale. Defaults to None.
        otherwise (tuple[int, int], optional): Where that step has not one scale, as
            ``resizing.size_at_test``. Defaults to None.

    Returns:
        BoxSizes: See there.

    Raises:
        ValueError: If the pipeline has no resize step with one scale and both sizes are None, or
            no box is left.
        FileNotFoundError: If the annotations are missing.
    """
    sizes, scales, num_images, num_ignored, num_empty = [np.zeros((0, 2))], [], 0, 0, 0
    console = Console(stderr=True)
    for leaf, pipeline in leaf_datasets(dataset):
        scale, way = resize_step(pipeline, input_size, otherwise)
        scales.append(scale)
        console.print(f'Loading the annotations of {leaf["type"]}')
        data = DATASETS.build({**leaf, 'pipeline': []})
        num_images += len(data)
        for index in track(range(len(data)), 'Scaling the boxes', console=console):
            info = data.get_data_info(index)
            boxes = [box for box in info['instances'] if not box.get('ignore_flag')]
            num_ignored += len(info['instances']) - len(boxes)
            size = _scaled_sizes([box['bbox'] for box in boxes], info, scale, way)
            valid = (size > 0).all(1)
            num_empty += int((~valid).sum())
            sizes.append(size[valid])
    sizes = np.concatenate(sizes)
    if not len(sizes):
        raise ValueError(
            f'no boxes to cluster: the {num_images} images of the training set have {num_ignored} '
            f'ignored boxes, {num_empty} without area, and no others'
        )
    return BoxSizes(sizes, scales, num_images, num_ignored, num_empty)


def resize_step(
    pipeline: list, input_size: tuple[int, int] | None, otherwise: tuple[int, int] | None = None
) -> tuple[tuple[int, int], str]:
    """Width and height of the first step that scales the image, and how it does so.

    Args:
        pipeline (list[dict]): Steps.
        input_size (tuple[int, int] | None): Takes the place of the step's scale.
        otherwise (tuple[int, int], optional): That of a step without one. Defaults to None.

    Returns:
        tuple[tuple[int, int], str]: The second is that of ``resizing.way_of``.

    Raises:
        ValueError: If there is no such step, or none with one scale, and no size in its place.
    """
    ways = []
    for step in pipeline:
        if type_name(step) not in RESIZING:
            continue
        if size := input_size or size_of(step):
            return size, way_of(step)
        ways.append(way_of(step))
    size = input_size or (otherwise if ways else None)
    if size is None:
        raise ValueError(
            'the training pipeline has no Resize step with one scale: give --input-size'
        )
    return size, ways[0] if ways else 'stretch'


RESIZING = (
    *('Resize', 'RandomResize', 'RandomChoiceResize', 'FixShapeResize'),
    *('DarknetResize', 'DarknetJitter'),
)


def _scaled_sizes(bboxes: list, info: dict, scale, way: str) -> np.ndarray:
    """Widths and heights ``(n, 2)`` of ``(x1, y1, x2, y2)`` boxes, cut at the image's border."""
    image = info.get('width'), info.get('height')
    if not all(image):
        image = mmcv.imread(info['img_path']).shape[1::-1]
    target = scale
    if way == 'keep_ratio':
        target = mmcv.rescale_size(image, scale)
    elif way == 'letterbox':
        target = letterbox_size(*image, scale)
    corners = np.asarray(bboxes, float).reshape(-1, 2, 2).clip(0, image)
    return (corners[:, 1] - corners[:, 0]) * np.divide(target, image)


def save_figure(path: Path, cells: np.ndarray, anchors: np.ndarray, curve: Sequence[float]):
    """Draw the boxes with the anchors, and the average IoU over the number of anchors.

    Args:
        path (Path): A PNG file.
        cells (np.ndarray): ``(N, 2)`` box sizes in grid cells.
        anchors (np.ndarray): ``(K, 2)`` in grid cells.
        curve (Sequence[float]): Average IoU with 1, 2, ... anchors.
    """
    from matplotlib.figure import Figure
    from matplotlib.patches import Rectangle

    figure = Figure(figsize=(12, 5), layout='constrained')
    boxes, line = figure.subplots(1, 2)
    # The few largest boxes would press all others into a corner.
    limit = 1.1 * np.maximum(np.quantile(cells, 0.995, axis=0), anchors.max(0))
    bins = boxes.hexbin(
        *cells[(cells <= limit).all(1)].T,
        gridsize=40,
        bins='log',
        cmap='Greys',
        mincnt=1,
        extent=(0, limit[0], 0, limit[1]),
    )
    figure.colorbar(bins, ax=boxes, label='boxes')
    colors = [f'C{index % 10}' for index in range(len(anchors))]
    for (width, height), color in zip(anchors, colors):
        boxes.add_patch(Rectangle((0, 0), width, height, fill=False, edgecolor=color, lw=1.5))
        boxes.plot(width, height, '*', color=color, markersize=14, markeredgecolor='white')
    boxes.set(
        title=f'{len(cells)} boxes and {len(anchors)} anchors',
        xlabel='width (grid cells)',
        ylabel='height (grid cells)',
        xlim=(0, limit[0]),
        ylim=(0, limit[1]),
    )
    line.plot(range(1, len(curve) + 1), curve, 'o-', label='k-means')
    line.plot(len(anchors), average_iou(cells, anchors), '*', markersize=14, label='these anchors')
    line.set(title='Average IoU', xlabel='number of anchors', ylim=(None, 1))
    line.grid(alpha=0.3)
    line.legend()
    write_png(path, figure, dpi=120)
