"""Times the head's losses against MMDetection's YOLOV3Head, the crop, and a step in bfloat16.

Everything is measured side by side in one run, alternating, so that a busy machine slows all
alike: read the ratios. Prints three Markdown tables.
"""

import argparse
import statistics
from pathlib import Path

import numpy as np
import torch
from mmdet.datasets.transforms import MinIoURandomCrop
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmdet.structures.bbox import HorizontalBoxes
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import init_default_scope
from mmengine.structures import InstanceData

from mmdet_yolo2fl.anchor_clusters import VOC_ANCHORS
from mmdet_yolo2fl.datasets import FastMinIoURandomCrop
from mmdet_yolo2fl.measure import alternate, machine, use
from mmdet_yolo2fl.tables import markdown_table

CONFIGS = Path(__file__).parents[1] / 'configs'


def parse_args(args=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument(
        '--config',
        default=str(CONFIGS / 'voc0712' / 'yolov2_fl.py'),
        help='whose model takes the training steps',
    )
    parser.add_argument('--images', type=int, default=32, help='images a batch, for the heads')
    parser.add_argument('--boxes', type=int, default=15, help='boxes an image')
    parser.add_argument('--classes', type=int, default=20, help='classes, for the heads')
    parser.add_argument('--grid', type=int, default=13, help='cells a side, for the heads')
    parser.add_argument('--repeat', type=int, default=20, help='measurements of the heads')
    parser.add_argument('--step-images', type=int, default=8, help='images a training step')
    parser.add_argument('--step-size', type=int, default=416, help='their width and height')
    parser.add_argument('--step-repeat', type=int, default=5, help='steps measured; 0 for none')
    parser.add_argument('--device', default='cuda' if torch.cuda.is_available() else 'cpu')
    args = parser.parse_args(args)
    numbers = (args.images, args.boxes, args.classes, args.grid, args.repeat, args.step_images)
    if min(*numbers, args.step_size) < 1 or args.step_repeat < 0:
        parser.error('numbers must be at least 1, but for --step-repeat')
    if not Path(args.config).is_file():
        parser.error(f'{args.config}: there is no such config file')
    return args


def random_truths(count, boxes, size, classes, device):
    """Boxes of 20 pixels to half the image, all inside it."""
    truths = []
    for _ in range(count):
        side = torch.rand(boxes, 2) * (size / 2 - 20) + 20
        corner = torch.rand(boxes, 2) * (size - side)
        bboxes = torch.cat([corner, corner + side], 1).to(device)
        labels = torch.randint(classes, (boxes,), device=device)
        truths.append(InstanceData(bboxes=bboxes, labels=labels))
    return truths


def heads(args):
    """The two ways of YOLOV2Head and YOLOV3Head, each on one map with the same five anchors."""
    pixels = [tuple(32 * side for side in anchor) for anchor in VOC_ANCHORS]
    yolov3 = MODELS.build(
        dict(
            type='YOLOV3Head',
            num_classes=args.classes,
            in_channels=[8],
            out_channels=[8],
            featmap_strides=[32],
            anchor_generator=dict(type='YOLOAnchorGenerator', strides=[32], base_sizes=[pixels]),
            train_cfg=dict(
                assigner=dict(type='GridAssigner', pos_iou_thr=0.5, neg_iou_thr=0.5, min_pos_iou=0)
            ),
        )
    )
    found = {'YOLOV3Head': lambda pred, *rest: yolov3.loss_by_feat([pred], *rest)}
    for name, file in dict(focal='yolov2_fl', squared='yolov2').items():
        cfg = Config.fromfile(CONFIGS / '_base_' / 'models' / f'{file}.py').model
        cfg.bbox_head.update(
            num_classes=args.classes, in_channels=8, feat_channels=8, train_cfg=cfg.train_cfg
        )
        head = MODELS.build(cfg.bbox_head).to(args.device)
        found[f'YOLOV2Head, {name}'] = head.loss_by_feat
    return found


def total_loss(losses):
    terms = [value for key, value in losses.items() if 'loss' in key]
    return sum(sum(term) if isinstance(term, (list, tuple)) else term for term in terms)


def print_table(title, times, reference):
    base, lines = statistics.median(times[reference]), []
    for name, values in times.items():
        median = statistics.median(values)
        figures = [f'{value:.1f}' for value in (median, min(values), max(values))]
        lines.append([name, *figures, f'{base / median:.2f}'])
    head = ['', 'median ms', 'min', 'max', f'{reference} / this']
    print(f'\n{title}\n\n{markdown_table(head, lines)}')


def benchmark_heads(args):
    size = 32 * args.grid
    truths = random_truths(args.images, args.boxes, size, args.classes, args.device)
    meta = dict(img_shape=(size, size), batch_input_shape=(size, size), scale_factor=(1.0, 1.0))
    metas = [dict(meta) for _ in range(args.images)]
    channels = len(VOC_ANCHORS) * (5 + args.classes)
    pred = torch.randn(args.images, channels, args.grid, args.grid, device=args.device)
    pred.requires_grad_()

    def step(loss_by_feat):
        pred.grad = None
        total_loss(loss_by_feat(pred, truths, metas)).backward()

    functions = {name: lambda f=f: step(f) for name, f in heads(args).items()}
    times = alternate(functions, args.device, args.repeat, warm_up=3)
    title = (
        f'Targets and losses, forward and backward: {args.images} images, {args.boxes} boxes '
        f'each, one {args.grid}x{args.grid} map, {len(VOC_ANCHORS)} anchors, {args.classes} classes'
    )
    print_table(title, times, 'YOLOV3Head')


def benchmark_crop(args):
    """Of as many images, 640 x 480; both draw the same crops."""
    truths = random_truths(args.images, args.boxes, 480, args.classes, 'cpu')
    img = np.zeros((480, 640, 3), dtype=np.uint8)

    def crop_all(transform):
        np.random.seed(0)
        for truth in truths:
            boxes = HorizontalBoxes(truth.bboxes.clone())
            transform(dict(img=img, img_shape=img.shape[:2], gt_bboxes=boxes))

    options = dict(min_ious=(0.3, 0.5, 0.7, 0.9), min_crop_size=0.5)
    kinds = (MinIoURandomCrop(**options), FastMinIoURandomCrop(**options))
    functions = {type(crop).__name__: lambda c=crop: crop_all(c) for crop in kinds}
    times = alternate(functions, 'cpu', args.repeat)
    title = f'The crop of {args.images} images of 640x480, {args.boxes} boxes each'
    print_table(title, times, 'MinIoURandomCrop')


def training_step(cfg, args, wrapper, channels_last):
    """A function that takes one step of a model of its own."""
    cfg = cfg.copy()
    cfg.model.data_preprocessor.batch_augments = None
    model = MODELS.build(cfg.model).to(args.device).train()
    if channels_last:
        model.to(memory_format=torch.channels_last)
    optimizer = dict(type='SGD', lr=1e-6, momentum=0.9)
    wrapper = build_optim_wrapper(model, dict(type=wrapper, optimizer=optimizer))
    size = args.step_size
    truths = random_truths(
        args.step_images, args.boxes, size, cfg.model.bbox_head.num_classes, args.device
    )
    shape = dict(img_shape=(size, size), ori_shape=(size, size), scale_factor=(1.0, 1.0))
    samples = [DetDataSample(metainfo=shape, gt_instances=truth) for truth in truths]
    images = torch.randint(0, 256, (args.step_images, 3, size, size), dtype=torch.uint8)
    data = dict(inputs=list(images), data_samples=samples)
    return lambda: model.train_step(data, wrapper)


def benchmark_steps(args):
    cfg = Config.fromfile(args.config)
    amp = 'YOLOV2AmpOptimWrapper'
    functions = {
        'plain': training_step(cfg, args, 'OptimWrapper', False),
        'channels_last': training_step(cfg, args, 'OptimWrapper', True),
        'AMP': training_step(cfg, args, amp, False),
        'AMP, channels_last': training_step(cfg, args, amp, True),
    }
    times = alternate(functions, args.device, args.step_repeat, warm_up=2)
    title = (
        f'A training step of {args.config.rsplit("configs/")[-1]}: {args.step_images} images of '
        f'{args.step_size}x{args.step_size}'
    )
    print_table(title, times, 'plain')


def main(args=None):
    args = parse_args(args)
    init_default_scope('mmdet')
    torch.manual_seed(0)
    use(args.device)
    print(machine(args.device))
    benchmark_heads(args)
    benchmark_crop(args)
    if args.step_repeat:
        benchmark_steps(args)


if __name__ == '__main__':
    main()
