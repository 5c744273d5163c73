"""Shows how unequal the training set of a config is, and what follows for its losses.

python tools/imbalance_report.py configs/bccd/yolov2_fl.py
python tools/imbalance_report.py configs/mine.py --study studies/mine.py     (of a YOLOv2)

Prints the classes with their boxes, images and sizes, the weights and alphas that follow from the
counts, the boxes of an image, and how many predictions stand against one object. Reads annotations
only. Leaves report.md, imbalance.json and imbalance.png in the result folder. With --study it also
writes what `python tools/study.py` takes to find out which loss is the best here: cross entropy,
focal loss on the objectness, and a joint loss with these alphas, with three seeds each.
"""

import argparse
import json
import os
import shlex
from pathlib import Path
from string import Template

import numpy as np
from matplotlib.figure import Figure
from mmdet.models import DETRHead
from mmdet.registry import DATASETS, MODELS
from mmengine.registry import init_default_scope

from mmdet_yolo2fl.analysis.evaluation import COCO_SIZES
from mmdet_yolo2fl.anchor_clusters import resize_step
from mmdet_yolo2fl.command_line import add_config_options, check_data, read_config
from mmdet_yolo2fl.config_parts import as_list, leaf_datasets
from mmdet_yolo2fl.imbalance import (
    class_columns,
    class_weights,
    count_priors,
    load_objects,
    mean_positives,
    scaled_boxes,
    suggested_alpha,
)
from mmdet_yolo2fl.models import BalancedFocalLoss, YOLOV2Head
from mmdet_yolo2fl.resizing import size_at_test
from mmdet_yolo2fl.tables import markdown_table
from mmdet_yolo2fl.whole_files import make_folder, write_png, write_text

MAX_IMAGES = 200
STUDY = Template("""# Which loss for $config? Yours to change: docs/study.md.
config = $path
seeds = [0, 1, 2]  # with five the intervals are half as wide
baseline = 'cross entropy'


def _loss(**options):
    return dict(_delete_=True, type='BalancedFocalLoss', use_sigmoid=True, **options)


def _head(**changes):
    return dict(model=dict(bbox_head=changes))


rows = {
    'cross entropy': _head(loss_obj=_loss(gamma=0.0, alpha=None, loss_weight=1.0)),
    'focal': _head(loss_obj=_loss(gamma=2.0, alpha=0.25, loss_weight=4.0)),
    # No objectness: every class is told from the background.
    'joint focal, alpha by class': _head(
        loss_obj=None,
        loss_cls=_loss(
            gamma=2.0,
            loss_weight=4.0,
            # $names
            alpha=[$alphas],
        ),
    ),
}
""")


def parse_args(args=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('config', help='config file; its train_dataloader names the data')
    add_config_options(parser)
    parser.add_argument(
        '--beta', type=float, default=0.999, help='of the effective number (default: 0.999)'
    )
    parser.add_argument(
        '--alpha', type=float, default=0.25, help='of a class of weight 1 (default: 0.25)'
    )
    parser.add_argument(
        '--input-size',
        type=int,
        nargs=2,
        metavar=('WIDTH', 'HEIGHT'),
        help="for a pipeline of many (default: the training pipeline's Resize)",
    )
    parser.add_argument(
        '--out', type=Path, help='result folder (default: work_dirs/<config>/imbalance)'
    )
    parser.add_argument(
        '--study',
        type=Path,
        metavar='FILE',
        help='write a study of losses (for a YOLOv2 with focal loss)',
    )
    args = parser.parse_args(args)
    if args.study and args.study.suffix != '.py':
        parser.error(f'--study {args.study}: a study is a Python file, give it the suffix .py')
    if args.study and args.study.exists():
        parser.error(f'--study {args.study} is there already: another name')
    if args.study and args.cfg_options:
        parser.error('--study compares the config as it is: write --cfg-options into it')
    if not 0 <= args.beta < 1 or not 0 < args.alpha < 1:
        parser.error('--beta must lie in [0, 1) and --alpha in (0, 1)')
    if args.input_size and min(args.input_size) < 1:
        parser.error('--input-size takes two positive numbers')
    args.cfg = read_config(args, parser, 'model', 'train_dataloader')
    if 'dataset' not in args.cfg.get('train_dataloader', {}):
        parser.error(f'config {args.config} has no train_dataloader.dataset')
    check_data(args.cfg, parser, 'train', images=False)
    if args.out is None:
        args.out = Path('work_dirs', Path(args.config).stem, 'imbalance')
    return args, parser


def collect(args):
    """All figures, as they are saved."""
    cfg = args.cfg
    init_default_scope(cfg.get('default_scope', 'mmdet'))
    dataset = DATASETS.build(cfg.train_dataloader.dataset)
    print(f'Reading the annotations of {len(dataset)} images')
    objects = load_objects(dataset)
    names = [str(name) for name in dataset.metainfo['classes']]
    if objects.labels.max() >= len(names):
        raise ValueError(
            f'there is a label {objects.labels.max()}, but only {len(names)} classes: {names}'
        )
    _, pipeline = next(leaf_datasets(cfg.train_dataloader.dataset))
    scale, way = resize_step(
        pipeline, args.input_size and tuple(args.input_size), size_at_test(cfg)
    )
    boxes = scaled_boxes(objects, scale, way)
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(1)
    counts = np.bincount(objects.labels, minlength=len(names))
    weights = class_weights(counts, 'effective_number', args.beta)
    inverse = class_weights(counts, 'inverse_frequency')
    alphas = suggested_alpha(weights, args.alpha)
    classes = {}
    for index, name in enumerate(names):
        mine = objects.labels == index
        classes[name] = dict(
            boxes=int(counts[index]),
            share=float(mine.mean()),
            images=len(np.unique(objects.images[mine])),
            **{
                size: int((mine & (areas >= low) & (areas < high)).sum())
                for size, (low, high) in COCO_SIZES.items()
            },
            effective_number_weight=float(weights[index]),
            inverse_frequency_weight=float(inverse[index]),
            alpha=float(alphas[index]),
        )
    per_image = np.bincount(objects.images, minlength=len(dataset))
    detector = MODELS.build(cfg.model)
    priors = count_priors(detector, scale)
    looked_at = np.linspace(0, len(dataset) - 1, min(MAX_IMAGES, len(dataset))).astype(int)
    positives = mean_positives(
        detector, objects, [boxes[objects.images == index] for index in looked_at], scale
    )
    return dict(
        config=args.config,
        beta=args.beta,
        alpha=args.alpha,
        input_size=list(scale),
        images=len(dataset),
        classes=classes,
        boxes_per_image=per_image.tolist(),
        loss=class_loss(cfg, detector, len(names)),
        predictions_per_image=priors,
        predictions_per_object=priors and priors / per_image.mean(),
        positives_per_image=positives,
        predictions_per_positive=priors / positives if priors and positives else None,
    )


# Of a YOLOV2Head, as the joint loss was measured.
JOINT = dict(object_scale=1.0, noobject_scale=1.0, rescore=False)


def class_loss(cfg, detector, num_classes):
    """What a class loss of the config must say beside its alphas, as it is saved."""
    head = getattr(detector, 'bbox_head', None)
    yolov2 = isinstance(head, YOLOV2Head)
    second = cfg.model.get('roi_head') or {}
    heads = as_list(cfg.model.get('bbox_head')) or as_list(second.get('bbox_head'))
    known = (heads[0].get('loss_cls') or {}) if heads else {}
    # YOLOv2 jointly, as it was measured: docs/parts.md, three ways to classify.
    options = dict(loss_weight=4.0) if yolov2 else {}
    for name, default in dict(activated=False, reduction='mean', loss_weight=1.0).items():
        if not yolov2 and known.get(name, default) != default:
            options[name] = known[name]
    stages = [module for module in detector.modules() if hasattr(module, 'fc_cls')]
    return dict(
        joint=yolov2,
        # Darknet's, which in the joint way would weigh the classes and replace their labels.
        head={key: value for key, value in JOINT.items() if yolov2 and getattr(head, key) != value},
        # What a study would replace; with other losses other options go along.
        objectness=yolov2 and isinstance(head.loss_obj, BalancedFocalLoss),
        # A second stage has a column for it, and then a softmax.
        background=bool(stages) and min(map(class_columns, stages)) > num_classes,
        # It sets the class_weight of its loss by itself.
        only_alphas=type(head) is DETRHead,
        hooks=bool(cfg.get('custom_hooks')),
        options=options,
    )


def _digits(value):
    """Three that count, also of a small one: alpha 0 would leave the class out."""
    return f'{value:#.3g}'


def config_lines(figures):
    """Three ways to write the weights into the config."""
    loss, classes = figures['loss'], figures['classes'].values()
    alphas = [_digits(row['alpha']) for row in classes]
    weights = [_digits(row['effective_number_weight']) for row in classes]
    if loss['background']:
        alphas.append(_digits(figures['alpha']))
        weights.append(_digits(1))
    start = 'loss_obj=None, ' if loss['joint'] else ''
    start += ''.join(f'{name}={value!r}, ' for name, value in loss['head'].items())
    start += "loss_cls=dict(_delete_=True, type='BalancedFocalLoss', "
    start += f'use_sigmoid={not loss["background"]}, gamma=2.0, '
    end = ''.join(f', {name}={value!r}' for name, value in loss['options'].items()) + ')'
    beta = '' if figures['beta'] == 0.999 else f', beta={figures["beta"]:g}'
    hooks = '_base_.custom_hooks + ' if loss['hooks'] else ''
    where = '; or add it to those that your file has' if loss['hooks'] else ''
    lines = [
        f'{start}alpha=[{", ".join(alphas)}]{end}',
        f'{start}alpha={figures["alpha"]:g}, class_weight=[{", ".join(weights)}]{end}',
        f"custom_hooks = {hooks}[dict(type='ClassWeightHook'{beta})]  # these weights, counted "
        f'each time{where}',
    ]
    return lines[:1] if loss['only_alphas'] else lines


def study_text(figures, beside):
    """A study file: cross entropy, focal loss, and the joint loss with these alphas.

    ``beside`` is the folder in which it will lie.
    """
    try:
        path = os.path.relpath(figures['config'], beside)
    except ValueError:  # on another drive of Windows
        path = os.path.abspath(figures['config'])
    return STUDY.substitute(
        config=figures['config'],
        path=repr(Path(path).as_posix()),
        # In a comment, which a line break in a name would end.
        names=', '.join(' '.join(name.split()) for name in figures['classes']),
        alphas=', '.join(_digits(row['alpha']) for row in figures['classes'].values()),
    )


def report(figures):
    """The figures as Markdown."""
    classes, per_image = figures['classes'], np.array(figures['boxes_per_image'])
    counts = [row['boxes'] for row in classes.values()]
    width, height = figures['input_size']
    lines = [
        f'{figures["images"]} images, {sum(counts)} boxes, {len(classes)} classes at '
        f'{width}x{height}; the most frequent class has {max(counts) / max(1, min(counts)):.1f} '
        'times as many boxes as the rarest.',
        '',
    ]
    head = ['class', 'boxes', 'share', 'images', 'small', 'medium', 'large']
    weights = ['effective_number_weight', 'inverse_frequency_weight', 'alpha']
    table = [
        [name, row['boxes'], f'{row["share"]:.1%}', *(row[key] for key in head[3:])]
        + [_digits(row[key]) for key in weights]
        for name, row in classes.items()
    ]
    head += ['weight (effective number)', 'weight (inverse frequency)', 'alpha']
    lines.append(markdown_table(head, table))
    lines += [
        '',
        f'Boxes of an image: mean {per_image.mean():.2f}, median {np.median(per_image):g}, most '
        f'{per_image.max()}; {int((per_image == 0).sum())} images have none.',
    ]
    if figures['predictions_per_image']:
        lines.append(
            f'Predictions (anchors, points or queries) of an image: '
            f'{figures["predictions_per_image"]}; for each object '
            f'{figures["predictions_per_object"]:.0f}.'
        )
    if figures['predictions_per_positive']:
        lines.append(
            f'Positives of an image: {figures["positives_per_image"]:.2f}; predictions for each '
            f'positive: {figures["predictions_per_positive"]:.0f}.'
        )
    lines += [
        '',
        'For the config, where the loss tells the classes apart; one of them, and measured:',
        '',
        *(f'    {line}' for line in config_lines(figures)),
    ]
    return '\n'.join(lines)


def draw(figures):
    """Classes with their sizes, boxes per image, foreground against background."""
    classes = figures['classes']
    order = sorted(classes, key=lambda name: -classes[name]['boxes'])
    shown = order if len(order) <= 30 else order[:15] + order[-15:]
    figure = Figure(figsize=(14, max(4, 0.26 * len(shown) + 1)), layout='constrained')
    bars, images, balance = figure.subplots(1, 3)
    left = np.zeros(len(shown))
    for size, color in zip(COCO_SIZES, ('tab:red', 'tab:orange', 'tab:blue')):
        values = np.array([classes[name][size] for name in shown])
        bars.barh(shown, values, left=left, color=color, label=size)
        left += values
    for row, name in enumerate(shown):
        bars.text(left[row], row, f' alpha {classes[name]["alpha"]:.2f}', va='center', fontsize=8)
    bars.invert_yaxis()
    bars.margins(x=0.2)
    title = 'Boxes by class and size' + ('' if shown == order else ': 15 most, 15 least frequent')
    bars.set(title=title, xlabel='boxes')
    bars.legend(title='at the input size')
    per_image = figures['boxes_per_image']
    images.hist(per_image, bins=np.arange(max(per_image) + 2) - 0.5, color='tab:green')
    images.set(title='Boxes of an image', xlabel='boxes', ylabel='images')
    values = {
        'predictions': figures['predictions_per_image'],
        'positives': figures['positives_per_image'],
        'objects': float(np.mean(per_image)),
    }
    values = {name: value for name, value in values.items() if value}
    balance.bar(list(values), list(values.values()), color=['grey', 'tab:red', 'tab:green'])
    for name, value in values.items():
        balance.text(name, value, f'{value:.4g}', ha='center', va='bottom')
    balance.set(title='Foreground and background of an image', yscale='log')
    balance.margins(y=0.2)
    return figure


def main(args=None):
    args, parser = parse_args(args)
    try:
        make_folder(args.out)
        figures = collect(args)
    except (ValueError, OSError) as error:
        parser.error(str(error))
    if args.study and not figures['loss']['objectness']:
        parser.error(
            '--study starts from a YOLOV2Head with BalancedFocalLoss on the objectness, as in '
            'yolov2_fl.py and the configs of tools/new_config.py; for others write a study by '
            'docs/study.md, with the lines that this tool prints without --study'
        )
    text = report(figures)
    write_text(args.out / 'imbalance.json', json.dumps(figures, indent=2))
    write_text(args.out / 'report.md', text + '\n')
    write_png(args.out / 'imbalance.png', draw(figures), dpi=90)
    print(f'\n{text}\n\nSaved in {args.out}: report.md, imbalance.json, imbalance.png')
    if args.study:
        args.study.parent.mkdir(parents=True, exist_ok=True)
        write_text(args.study, study_text(figures, args.study.resolve().parent))
        print(
            'Nine trainings, which go on where they were broken off; fewer with --rows, --seeds:\n'
            f'  python tools/study.py {shlex.quote(str(args.study))}'
        )


if __name__ == '__main__':
    main()
