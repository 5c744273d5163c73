"""Trains configs/yolov2_fl.py on the embedded street scenes, evaluates it and shows what it finds.

Leaves in work_dirs/demo: predictions/ (drawn beside the truth), predictions.jpg (a page of them),
loss_curve.png, results.md (the AP of every class), results.json, the logs and the checkpoints. A
run that was interrupted goes on; one that is complete is not repeated.
"""

import argparse
import hashlib
import json
import sys
import time
from pathlib import Path

import cv2
import mmcv
import numpy as np
from matplotlib.figure import Figure
from mmdet.apis import inference_detector
from mmdet.registry import VISUALIZERS
from mmdet.structures.bbox import get_box_tensor
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.runner import Runner
from mmengine.utils import track_iter_progress

from mmdet_yolo2fl.average_precision import ap_by_class
from mmdet_yolo2fl.checkpoints import (
    latest_whole_checkpoint,
    load_only_weights,
    verify_checkpoint,
    verify_initial_checkpoints,
)
from mmdet_yolo2fl.command_line import avoid_mps
from mmdet_yolo2fl.detector import check_fit
from mmdet_yolo2fl.engine import work_dir_lock
from mmdet_yolo2fl.evaluators import evaluators
from mmdet_yolo2fl.measure import machine
from mmdet_yolo2fl.scalars import logged_scalars
from mmdet_yolo2fl.tables import markdown_table
from mmdet_yolo2fl.whole_files import write_bytes, write_png, write_text

CONFIG = Path(__file__).resolve().parents[1] / 'configs' / 'yolov2_fl.py'
NUM_PICTURES = 12
DETECTIONS = 'detections'


def parse_args(args=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--config', type=Path, default=CONFIG, help='another config to show')
    parser.add_argument('--out', type=Path, default=Path('work_dirs/demo'), help='result folder')
    parser.add_argument('--seed', type=int, default=0)
    args = parser.parse_args(args)
    if not args.config.is_file():
        parser.error(f'{args.config}: there is no such config file')
    if args.seed < 0:
        parser.error(f'--seed must be at least 0, got {args.seed}')
    return args


def load_config(args):
    avoid_mps()
    cfg = Config.fromfile(args.config)
    cfg.work_dir = str(args.out)
    cfg.randomness = dict(seed=args.seed)
    cfg.resume = True  # from the work directory, if a checkpoint is there
    found = evaluators(cfg, 'val')
    if [one.get('type') for one in found] != ['CocoMetric']:
        sys.exit(
            f'{args.config}: is not evaluated by a CocoMetric, of which the demo makes its table: '
            f'use tools/train.py {args.config}, then tools/analyze.py'
        )
    if 'max_epochs' not in cfg.train_cfg:
        sys.exit(
            f'{args.config}: counts iterations, and the demo shows epochs: use tools/train.py '
            f'{args.config}, then tools/analyze.py'
        )
    # Without a file of annotations the truths of the samples are written beside the detections.
    cfg.test_evaluator = dict(found[0], outfile_prefix=str(args.out / DETECTIONS))
    cfg.test_dataloader = cfg.val_dataloader
    return cfg


def train_and_evaluate(cfg):
    """The runner with its trained model, minutes of training, MMDetection's metrics."""
    load_only_weights()
    verify_initial_checkpoints(cfg.model)
    latest = latest_whole_checkpoint(cfg.work_dir)
    cfg.resume = latest is not None
    if latest is not None:
        cfg.load_from = str(latest)
    elif cfg.get('load_from'):
        cfg.load_from = str(verify_checkpoint(cfg.load_from))
    runner = Runner.from_cfg(cfg)
    if cfg.get('load_from'):
        check_fit(runner.model, cfg.load_from, whole=cfg.resume)
    # The first time the scenes are drawn here, which is no training.
    print(f'{len(runner.train_loop.dataloader.dataset)} images for training')
    start = time.monotonic()
    runner.train()
    minutes = (time.monotonic() - start) / 60
    return runner, minutes, runner.test()


def markdown(table):
    lines = [[name, f'{at_50:.3f}', f'{ap:.3f}'] for name, (at_50, ap) in table.items()]
    return markdown_table(['class', 'AP50', 'AP'], lines)


def draw_predictions(runner, out):
    """Truth on the left, prediction on the right; and a page of all of them."""
    dataset, folder = runner.test_dataloader.dataset, out / 'predictions'
    folder.mkdir(exist_ok=True)
    visualizer = VISUALIZERS.build(dict(type='DetLocalVisualizer', name='demo'))
    visualizer.dataset_meta = dataset.metainfo
    model = runner.model.eval()
    model.cfg = runner.cfg
    chosen = np.linspace(0, len(dataset) - 1, NUM_PICTURES).round().astype(int)
    pictures = []
    for index in track_iter_progress(chosen.tolist()):
        truth = dataset[index]['data_samples']
        result = inference_detector(model, truth.img_path)
        # The test pipeline loads the boxes behind Resize: they are those of the original image.
        result.gt_instances = truth.gt_instances
        result.gt_instances.bboxes = get_box_tensor(truth.gt_instances.bboxes)
        image = mmcv.imread(truth.img_path, channel_order='rgb')
        file = folder / Path(truth.img_path).with_suffix('.png').name
        visualizer.add_datasample(file.stem, image, result, pred_score_thr=0.4, out_file=str(file))
        pictures.append(mmcv.imread(file))
    _, content = cv2.imencode('.jpg', page(pictures), [cv2.IMWRITE_JPEG_QUALITY, 88])
    write_bytes(out / 'predictions.jpg', content.tobytes())


def page(pictures):
    """Two in a row, all as large as the first; photographs may differ."""
    height, width = pictures[0].shape[:2]
    scales = [min(height / one.shape[0], width / one.shape[1]) for one in pictures]
    equal = [
        mmcv.impad(mmcv.imrescale(one, scale), shape=(height, width), pad_val=(255, 255, 255))
        for one, scale in zip(pictures, scales)
    ]
    return np.vstack([np.hstack(equal[i : i + 2]) for i in range(0, len(equal), 2)])


def draw_curves(out):
    """The losses of all iterations and the validation AP50, from MMEngine's scalars.json."""
    steps = {}
    for row in logged_scalars(out):
        for key, value in row.items():
            # Not the shares of the losses, such as focal/bbox_head.loss_obj/easy_negative_loss.
            if key.startswith('loss') or key == 'coco/bbox_mAP_50':
                steps.setdefault(key, {})[row['step']] = value
    figure = Figure(figsize=(11, 4), layout='constrained')
    left, right = figure.subplots(1, 2)
    for key in sorted(key for key in steps if key.startswith('loss')):
        points = sorted(steps[key].items())
        left.plot(*zip(*points), label=key, linewidth=2 if key == 'loss' else 1)
    left.set(xlabel='iteration', ylabel='loss', yscale='log')
    left.legend()
    points = sorted(steps.get('coco/bbox_mAP_50', {}).items())
    right.plot(*zip(*points), marker='o')
    right.set(xlabel='epoch', ylabel='AP50 on val', ylim=(0, 1))
    right.xaxis.get_major_locator().set_params(integer=True)
    for axes in (left, right):
        axes.grid(alpha=0.3)
    write_png(out / 'loss_curve.png', figure, dpi=120)
    return figure


def main(args=None):
    args = parse_args(args)
    cfg = load_config(args)
    recipe = hashlib.sha256(cfg.pretty_text.encode()).hexdigest()
    results, recipe_file = args.out / 'results.json', args.out / 'recipe.txt'
    if recipe_file.is_file() and recipe_file.read_text() != recipe:
        sys.exit(f'{args.out} holds a run of another config or seed: delete it, or choose --out.')
    if results.is_file():
        print((args.out / 'results.md').read_text())
        print(f'Done before; delete {args.out} to do it again.')
        return
    args.out.mkdir(parents=True, exist_ok=True)
    write_text(recipe_file, recipe)
    begun_before = (args.out / 'last_checkpoint').exists()
    epochs = cfg.train_cfg.max_epochs
    print(
        f'Training {args.config.name} for {epochs} epochs: 5 to 11 minutes on two CPU cores, after '
        'the street scenes have been drawn, once, in about 2 minutes.'
    )
    try:
        with work_dir_lock(args.out):
            runner, minutes, metrics = train_and_evaluate(cfg)
    # Another process is at work; a checkpoint is not there, damaged or of another detector.
    except (BlockingIOError, FileNotFoundError, ValueError) as error:
        sys.exit(str(error))
    classes = runner.test_dataloader.dataset.metainfo['classes']
    table = ap_by_class(args.out / DETECTIONS, cfg.test_evaluator.get('ann_file'), classes)
    print('\nDrawing predictions')
    draw_predictions(runner, args.out)
    draw_curves(args.out)
    summary = f'{args.config.name}, seed {args.seed}: {minutes:.1f} minutes of training'
    summary += ' since it was resumed\n\n' if begun_before else '\n\n'
    summary += f'{markdown(table)}\n'
    write_text(args.out / 'results.md', summary)
    content = dict(minutes=minutes, ap50_and_ap=table, metrics=metrics)
    content['machine'] = machine(get_device())
    write_text(results, json.dumps(content, indent=2))
    print(f'\n{summary}\nIn {args.out}: predictions.jpg, predictions/, loss_curve.png, results.md')


if __name__ == '__main__':
    main()
