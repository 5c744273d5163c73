"""A config for a data set of one's own: its classes, its files, anchors that fit its boxes."""

import math
import os
from collections import Counter
from pathlib import Path
from string import Template
from xml.etree.ElementTree import Element

from mmdet.registry import DATASETS

from .anchor_clusters import average_iou, cluster_anchors, load_box_sizes
from .annotation_files import read_coco, read_names, read_xml
from .datasets.annotation_check import CORNERS, SIDES, check_annotations, left_out
from .evaluators import coco_files
from .models.task_modules import YOLOV2AnchorGenerator

# Name of the model's config; pixels of a cell; what differs from it in the model, and in the head.
NETWORKS = dict(
    darknet19=('yolov2_fl', 32, '', ''),
    darknet19_stride16=(
        'yolov2_fl',
        16,
        """    # Without the last stage: cells of 16 pixels in place of 32.
    backbone=dict(out_indices=(3, 4)),
    neck=dict(in_channels=(256, 512), out_channels=512, passthrough_channels=128),
""",
        """        in_channels=1024,
        feat_channels=512,
""",
    ),
    narrow=(
        'yolov2_fl',
        32,
        """    backbone=dict(widen_factor=0.5),
    neck=dict(in_channels=(256, 512), out_channels=512, passthrough_channels=32),
""",
        """        in_channels=640,
        feat_channels=512,
""",
    ),
    narrow_stride16=(
        'yolov2_fl',
        16,
        """    # Without the last stage: cells of 16 pixels in place of 32.
    backbone=dict(widen_factor=0.5, out_indices=(3, 4)),
    neck=dict(in_channels=(128, 256), out_channels=256, passthrough_channels=64),
""",
        """        in_channels=512,
        feat_channels=256,
""",
    ),
    tiny=('yolov2_tiny_fl', 32, '', ''),
    mobilenetv2=('yolov2_mobilenetv2_fl', 32, '', ''),
    # As configs/edge/_base_.
    edge_tiny=(
        'yolov2_tiny_fl',
        32,
        """    # For small processors: half as wide, and ReLU.
    backbone=dict(widen_factor=0.5, act_cfg=dict(type='ReLU')),
""",
        """        in_channels=512,
        feat_channels=512,
        act_cfg=dict(type='ReLU'),
""",
    ),
    edge_mobilenetv2=(
        'yolov2_mobilenetv2_fl',
        32,
        """    # For small processors: ReLU, no pass-through, no 3x3 convolution in the head.
    backbone=dict(out_indices=(7,), act_cfg=dict(type='ReLU')),
    neck=None,
""",
        """        in_channels=1280,
        stacked_convs=0,
""",
    ),
)

# What differs from focal loss alone in the head, and in the rest of the model.
PRESETS = dict(
    focal=('', ''),
    modern=(
        """        # The overlap itself is learned too, beside x, y, w and h.
        loss_bbox=dict(type='CIoULoss', loss_weight=1.0),
""",
        """    test_cfg=dict(
        nms=dict(_delete_=True, type='soft_nms', iou_threshold=0.45, min_score=0.001)
    ),
""",
    ),
)

TOO_SMALL = 'boxes that are a pixel or less'

CONFIG = Template("""# $names: written by tools/new_config.py, yours to change.
_base_ = [
$bases]
max_epochs = 80  # with some thousand images fewer do
image_size = ($width, $height)
metainfo = dict(classes=$classes$palette)

model = dict(
    data_preprocessor=dict(batch_augments=None),
$network    bbox_head=dict(
        num_classes=$num_classes,
$head$preset_head        # Clustered from $num_boxes boxes at $width x $height: average IoU $iou.
        anchor_generator=dict(
            stride=$stride,
            anchors=$anchors,
        ),
    ),
$preset_rest)

train_pipeline = [
    dict(type='CheckedLoadImageFromFile'),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(type='FastMinIoURandomCrop', min_ious=(0.3, 0.5, 0.7, 0.9), min_crop_size=0.5),
    dict(type='Resize', scale=image_size, keep_ratio=False),
    dict(type='YOLOXHSVRandomAug'),  # before flips: it writes into the image
    dict(type='RandomFlip', prob=0.5),
    dict(type='FilterAnnotations', min_gt_bbox_wh=(1, 1), keep_empty=False),
    dict(type='PackDetInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=image_size, keep_ratio=False),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(
        type='PackDetInputs',
        meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor'),
    ),
]
train_dataloader = dict(
    batch_size=8,
    num_workers=2,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(
        metainfo=metainfo,
        filter_cfg=$filter,
        pipeline=train_pipeline,
$train
    ),
)
val_dataloader = dict(
    batch_size=8,
    num_workers=2,
    persistent_workers=True,
    drop_last=False,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        metainfo=metainfo,
        test_mode=True,
        pipeline=test_pipeline,
$val
    ),
)
test_dataloader = val_dataloader
val_evaluator = $evaluator
test_evaluator = val_evaluator
default_hooks = dict(checkpoint=dict(save_best='$best'))
train_cfg = dict(max_epochs=max_epochs)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=100),
    dict(
        type='CosineAnnealingLR',
        by_epoch=True,
        begin=0,
        end=max_epochs,
        T_max=max_epochs,
        eta_min=1e-5,
        convert_to_iter_based=True,
    ),
]
# Less precision, more speed: bfloat16 on a CPU that has it, float16 on a GPU.
optim_wrapper = dict(type='YOLOV2AmpOptimWrapper')
""")


def coco_datasets(
    train: Path, val: Path, train_images: Path, val_images: Path
) -> tuple[dict, dict, dict, Counter]:
    """Data sets of two COCO files, and the evaluator.

    Returns:
        tuple[dict, dict, dict, Counter]: Configs, and the boxes of each class, 0 too, in the order
        of the file, on which MMDetection insists.

    Raises:
        FileNotFoundError: If the training file is missing.
        ValueError: If it is no COCO file.
    """
    content = read_coco(train, ['categories', 'annotations'])
    try:
        names = {category['id']: category['name'] for category in content['categories']}
        sizes = {image['id']: tuple(map(image.get, SIDES)) for image in content.get('images', ())}
        # (What is of no category the look through the annotations finds, below.)
        counts = Counter(
            names.get(one['category_id'])
            for one in content['annotations']
            if not one.get('iscrowd') and _is_whole(one, sizes)
        )
    except (AttributeError, KeyError, TypeError) as error:
        raise ValueError(
            f'{train}: no COCO file of boxes ({type(error).__name__}: {error})'
        ) from error
    counts = Counter({name: counts[name] for name in names.values()})

    def dataset(file, images):
        return dict(
            type='CocoDataset',
            ann_file=file.as_posix(),
            data_prefix=dict(img=f'{images.as_posix()}/'),
        )

    evaluator = dict(type='CocoMetric', ann_file=val.as_posix(), metric='bbox', classwise=True)
    return dataset(train, train_images), dataset(val, val_images), evaluator, counts


def _is_whole(one: dict, sizes: dict) -> bool:
    """Whether training sees an annotation of COCO's: it has an area, in its image."""
    try:
        return left_out(one, True, sizes.get(one['image_id']), False) is None
    except (KeyError, TypeError, ValueError):  # what is wrong the look through them finds
        return True


def _is_inside(thing: Element, size: Element | None) -> bool:
    """The same of VOC's."""
    try:
        corners = [float(thing.findtext(f'bndbox/{key}')) for key in CORNERS]
        width, height = (math.inf if size is None else float(size.findtext(key)) for key in SIDES)
    except (TypeError, ValueError):
        return True
    left, top, right, bottom = (side - 1 for side in corners)
    return max(0, left) < min(right, width) and max(0, top) < min(bottom, height)


def voc_datasets(root: Path, train: str, val: str) -> tuple[dict, dict, dict, Counter]:
    """The same of a folder in VOC's layout.

    Args:
        root (Path): With ``JPEGImages``, ``Annotations`` and ``ImageSets/Main``.
        train, val (str): Names of the lists in ``ImageSets/Main``, without suffix.

    Raises:
        FileNotFoundError: If a list or an annotation is missing.
        ValueError: If an annotation is no XML.
    """

    def dataset(name):
        return dict(
            type='XMLDataset',
            data_root=f'{root.as_posix()}/',
            ann_file=f'ImageSets/Main/{name}.txt',
            data_prefix=dict(sub_data_root=''),
        )

    counts: Counter = Counter()
    for image in read_names(root / f'ImageSets/Main/{train}.txt'):
        root_element = read_xml(root / f'Annotations/{image}.xml')
        for thing in root_element.iterfind('object'):
            # (What has no name the look through the annotations finds, below.)
            if name := thing.findtext('name'):
                is_learned = thing.findtext('difficult', '0').strip() in ('', '0')
                counts[name] += is_learned and _is_inside(thing, root_element.find('size'))
    evaluator = dict(type='VOCMetric', metric='mAP', iou_thrs=[0.5], eval_mode='area')
    return dataset(train), dataset(val), evaluator, Counter(dict(sorted(counts.items())))


def shared_images(datasets: tuple[dict, dict, dict, Counter], keep_empty: bool) -> tuple[int, int]:
    """How many images of the validation are trained on too, and how many it has.

    Args:
        datasets (tuple): Of :func:`coco_datasets` or :func:`voc_datasets`.
        keep_empty (bool): Whether images without objects are trained on.
    """
    train, val, _, counts = datasets
    about = dict(pipeline=[], metainfo=dict(classes=tuple(counts)))
    wanted = dict(filter_cfg=dict(filter_empty_gt=not keep_empty, min_size=0))

    def files(config, **how):
        data = DATASETS.build({**config, **about, **how})
        return {
            os.path.realpath(data.get_data_info(index)['img_path']) for index in range(len(data))
        }

    trained, validated = files(train, **wanted), files(val, test_mode=True)
    return len(trained & validated), len(validated)


def make_config(
    datasets: tuple[dict, dict, dict, Counter],
    bases: str,
    network: str = 'darknet19',
    size: tuple[int, int] = (416, 416),
    num_anchors: int = 5,
    preset: str = 'modern',
    keep_empty: bool = False,
) -> tuple[str, Counter, float]:
    """The text of a config, after a look through the annotations.

    Args:
        datasets (tuple): Of :func:`coco_datasets` or :func:`voc_datasets`.
        bases (str): The way from the config to ``configs/_base_``.
        network (str): One of ``NETWORKS``. Defaults to 'darknet19'.
        size (tuple[int, int]): Width and height of the input, multiples of 32.
        num_anchors (int): Defaults to 5.
        preset (str): One of ``PRESETS``. Defaults to 'modern'.
        keep_empty (bool): Train on images without objects, too. Defaults to False, as
            MMDetection's configs.

    Returns:
        tuple[str, Counter, float]: The config; what of the annotations will be left out, by
        reason; and the share of the boxes that are smaller than a cell, in 0..1.

    Raises:
        FileNotFoundError: If a file is missing.
        ValueError: If the annotations are damaged, or have too few boxes, or if an image lies
            across its annotation.
    """
    train, val, evaluator, every_class = datasets
    # Of boxes none of which is learned it is said below why.
    counts = +every_class or every_class
    if not counts:
        raise ValueError(f'{train["ann_file"]}: has no box')
    meta = dict(metainfo=dict(classes=tuple(counts)))
    skipped: Counter = Counter()
    # As exporters put a common parent first.
    if empty := [name for name in every_class if name not in counts]:
        skipped[f'classes without a box for training ({", ".join(map(str, empty))})'] = len(empty)
    wanted = dict(filter_empty_gt=not keep_empty, min_size=0)
    for name, dataset in dict(
        training=dict(train, filter_cfg=wanted), validation=dict(val, test_mode=True)
    ).items():
        by_coco = coco_files(dict(val_evaluator=evaluator), 'val')
        loading = dict(pipeline=[dict(type='LoadImageFromFile')])
        # Of the training a damaged one is named when it is loaded.
        whole = name == 'validation'
        found = check_annotations(
            {**dataset, **meta, **loading}, sizes=True, by_coco=by_coco, whole=whole
        )
        for reason, number in found.items():
            skipped[f'{name}: {reason}'] += number
    resize = [dict(type='Resize', scale=size, keep_ratio=False)]
    model, stride, body, head = NETWORKS[network]
    try:
        sizes = load_box_sizes({**train, **meta, 'pipeline': resize}).sizes
    except ValueError as error:
        reasons = ', '.join(f'{reason}: {number}' for reason, number in skipped.items())
        raise ValueError(f'{error}. Left out: {reasons or "nothing"}') from error
    is_seen = (sizes > 1).all(1)  # else FilterAnnotations drops them
    if not is_seen.all():
        skipped[f'training: {TOO_SMALL} at {size[0]} x {size[1]}'] = int((~is_seen).sum())
    sizes = sizes[is_seen] / stride
    anchors = cluster_anchors(sizes, num_anchors).round(2)
    pairs = [tuple(anchor) for anchor in anchors.tolist()]
    YOLOV2AnchorGenerator(pairs, stride)  # refuses what training would refuse
    preset_head, preset_rest = PRESETS[preset]
    based = f'models/{model}.py', 'schedules/schedule_from_scratch.py', 'default_runtime.py'
    text = CONFIG.substitute(
        # In a comment, which a line break in a name would end.
        names=', '.join(' '.join(name.split()) for name in counts),
        bases=''.join(f'    {f"{bases}/{name}"!r},\n' for name in based),
        width=size[0],
        height=size[1],
        classes=tuple(counts),
        # CocoDataset's own palette has 80 colours.
        palette=", palette='random'" if len(counts) > 80 else '',
        network=body,
        head=head,
        preset_head=preset_head,
        preset_rest=preset_rest,
        num_classes=len(counts),
        num_boxes=len(sizes),
        stride=stride,
        iou=f'{average_iou(sizes, anchors):.2f}',
        anchors=pairs,
        filter=_call(wanted),
        train=_lines(train),
        val=_lines(val),
        evaluator=_call(evaluator),
        best=dict(CocoMetric='coco/bbox_mAP_50', VOCMetric='pascal_voc/mAP')[evaluator['type']],
    )
    return text, skipped, float((sizes.prod(1) < 1).mean())


def _call(values: dict) -> str:
    parts = (
        f'{key}={_call(value) if isinstance(value, dict) else repr(value)}'
        for key, value in values.items()
    )
    return f'dict({", ".join(parts)})'


def _lines(values: dict) -> str:
    return '\n'.join(
        f'        {key}={_call(value) if isinstance(value, dict) else repr(value)},'
        for key, value in values.items()
    )
