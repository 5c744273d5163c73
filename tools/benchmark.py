"""Compares detectors: size, speed, memory and, where known, accuracy, side by side in one run.

python tools/benchmark.py configs/yolov2_fl.py configs/anywhere/*.py
python tools/benchmark.py A.py B.py --checkpoints A.pth B.pth --images *.jpg --modes float32 amp
python tools/benchmark.py --times work_dirs/benchmark/benchmark.csv --study docs/results/mine.csv

Any configs of MMDetection's kind, of one stage, of two, with queries, with masks (but not those of
YOLACT and CondInst, whose networks MMDetection does not run alone). They take turns, so that a busy
machine slows all alike: read the ratios. For each: parameters, FLOPs (of one forward pass, a
multiplication with its addition counted once), milliseconds of one image, of the network alone and
of the whole prediction (pipeline, network, boxes), images a second in batches, of the network alone
and with the boxes, milliseconds of a training step, the share of it that the heads take for their
targets and losses (forward; of a second stage without the matching of its proposals), and the peak
of memory in it beyond the weights. What the boxes of a prediction take depends on how many there
are: without checkpoints the weights are random, and nearly all pass; with them, give --images. A
second stage takes all proposals in the network alone. Checkpoints are also evaluated on the
config's test set, at --size if given, in mixed precision for its modes; what a study has found
stands in all modes. Writes benchmark.md, benchmark.csv and benchmark.png; what
fails, of a detector or the whole, is named, and the rest goes on. With --times nothing is timed: an
earlier table gets the accuracies that a study has found since.
"""

import argparse
import itertools
import statistics
from contextlib import contextmanager
from functools import partial, wraps
from pathlib import Path
from tempfile import TemporaryDirectory

import cv2
import mmcv
import numpy as np
import torch
from mmcv.transforms import Compose
from mmdet.models.detectors.single_stage_instance_seg import SingleStageInstanceSegmentor
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmdet.structures.mask import PolygonMasks
from mmengine.analysis import get_model_complexity_info
from mmengine.config import Config
from mmengine.model import revert_sync_batchnorm
from mmengine.optim import build_optim_wrapper
from mmengine.registry import init_default_scope
from mmengine.runner import Runner
from mmengine.structures import InstanceData

from mmdet_yolo2fl.benchmark_figure import COLUMNS, draw
from mmdet_yolo2fl.checkpoints import verify_checkpoint
from mmdet_yolo2fl.config_parts import begin_anew, leaves, type_name, unwrapped
from mmdet_yolo2fl.detector import load_detector
from mmdet_yolo2fl.evaluators import evaluators
from mmdet_yolo2fl.inference.inferencer import with_grey_arrays
from mmdet_yolo2fl.measure import (
    alternate,
    between,
    machine,
    mark,
    names_of,
    peak_memory,
    use,
)
from mmdet_yolo2fl.study_tables import averages, read_csv
from mmdet_yolo2fl.tables import csv_text, markdown_table, read_table
from mmdet_yolo2fl.whole_files import make_folder, write_png, write_text

MODES = {
    'float32': (False, False),
    'channels_last': (False, True),
    'amp': (True, False),
    'amp, channels_last': (True, True),
}
# In the CSV besides.
ABOUT = ('machine', 'batch')


# What heads call their targets and losses in MMDetection: those of dense ones, of regions.
LOSSES = ('loss_by_feat', 'loss_and_target')
# What is timed, and where it goes.
FUNCTIONS = {
    'network': 'network_ms',
    'network_throughput': 'network_images_s',
    'prediction': 'prediction_ms',
    'throughput': 'images_s',
    'step': 'step_ms',
}


def parse_args(args=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('configs', nargs='*', type=Path, help='config files')
    parser.add_argument('--names', nargs='+', help='of the configs, for the table')
    parser.add_argument(
        '--checkpoints',
        nargs='+',
        metavar='CHECKPOINT',
        help="one for each config, '-' for none; timed with its weights, and evaluated",
    )
    parser.add_argument(
        '--images',
        nargs='+',
        type=Path,
        metavar='FILE',
        help='what is predicted, in turn (default: noise, in which a trained detector sees little)',
    )
    parser.add_argument(
        '--study', type=Path, help='table of tools/study.py; accuracy of the rows named as here'
    )
    parser.add_argument(
        '--times', type=Path, help='benchmark.csv of an earlier run, in place of configs'
    )
    parser.add_argument('--modes', nargs='+', choices=MODES, default=['float32'])
    parser.add_argument(
        '--size',
        type=int,
        nargs=2,
        metavar=('WIDTH', 'HEIGHT'),
        help="of the network's input (default: what each config's test pipeline makes); images are "
        'stretched to it, but by DarknetResize with its letterbox',
    )
    parser.add_argument('--batch', type=int, default=8, help='images a batch (default: 8)')
    parser.add_argument('--boxes', type=int, default=10, help='boxes an image (default: 10)')
    parser.add_argument('--repeat', type=int, default=10, help='measurements (default: 10)')
    parser.add_argument('--device', default='cuda' if torch.cuda.is_available() else 'cpu')
    parser.add_argument('--out', type=Path, default=Path('work_dirs/benchmark'), help='folder')
    args = parser.parse_args(args)
    if bool(args.configs) == bool(args.times):
        parser.error('either config files or --times')
    if args.times and not args.study:
        parser.error('--times needs --study, whose accuracies it gets')
    for name in ('names', 'checkpoints'):
        given = getattr(args, name)
        if given and len(given) != len(args.configs):
            parser.error(f'--{name}: {len(given)} for {len(args.configs)} configs')
    missing = [str(path) for path in args.configs if not path.is_file()]
    if missing:
        parser.error(f'there is no such config file: {", ".join(missing)}')
    for table in (args.study, args.times):
        if table and not table.is_file():
            parser.error(f'{table}: there is no such table')
    lost = [str(path) for path in args.images or () if not cv2.haveImageReader(str(path))]
    if lost:
        parser.error(f'--images: no image that OpenCV reads: {", ".join(lost)}')
    if min(args.batch, args.boxes, args.repeat) < 1:
        parser.error('--batch, --boxes and --repeat must be at least 1')
    if len(set(args.names or ())) < len(args.names or ()):
        parser.error('--names: each detector needs a name of its own')
    args.names = args.names or names_of(args.configs, args.checkpoints)
    try:
        args.accuracies = accuracies(args.study) if args.study else {}
        make_folder(args.out)
    except (OSError, ValueError) as error:
        parser.error(str(error))
    return args


def accuracies(table):
    """AP50 and AP of each row of a study's table: the means of those runs that have them."""
    found = {}
    for result in read_csv(table):
        for name, value in averages(result['metrics']).items():
            found.setdefault(result['row'], {}).setdefault(name, []).append(value)
    return {
        row: {name: float(np.mean(values)) for name, values in metrics.items()}
        for row, metrics in found.items()
    }


class Contestant:
    """A detector in one mode, with the functions to be timed.

    Args:
        path (Path): Its config.
        mode (str): One of ``MODES``.
        checkpoint (str): Of its weights; '-' for random ones.
        args (argparse.Namespace): Of the command line.
    """

    def __init__(self, path, mode, checkpoint, args):
        cfg = Config.fromfile(path)
        init_default_scope(cfg.get('default_scope', 'mmdet'))
        self.args, self.device = args, args.device
        self.amp, channels_last = MODES[mode]
        self.pipeline = Compose(array_pipeline(cfg, args.size))
        without_batch_augments(cfg.model)
        torch.manual_seed(0)
        model = MODELS.build(cfg.model) if checkpoint == '-' else load_detector(cfg, checkpoint)[0]
        if isinstance(model, SingleStageInstanceSegmentor) and model.with_bbox:
            raise ValueError(
                f'{path}: MMDetection runs this network only with truths, for its losses'
            )
        self.model = revert_sync_batchnorm(model).to(self.device)
        for module in self.model.modules():
            if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
                module.momentum = 0.0  # the training steps shall not change what is predicted
        if channels_last:
            self.model.to(memory_format=torch.channels_last)
        # A camera's picture; the pipeline brings it to the size of the network.
        noise = np.random.default_rng(0).integers(0, 256, (480, 640, 3), np.uint8)
        self.single = self.inputs([noise])
        self.batch = self.inputs(args.batch * [noise])
        pictures = [mmcv.imread(file) for file in args.images or ()] or [noise]
        self.pictures = itertools.cycle(pictures)
        self.picture_batch = self.inputs(itertools.islice(itertools.cycle(pictures), args.batch))
        wrapper = dict(type='OptimWrapper', optimizer=dict(type='SGD', lr=0.0))
        if self.amp:
            wrapper['type'] = 'YOLOV2AmpOptimWrapper'
            # As in the predictions: not float32 where the processor only emulates it.
            on_cpu = torch.device(self.device).type == 'cpu'
            wrapper['dtype'] = 'bfloat16' if on_cpu else None
        self.optimizer = build_optim_wrapper(self.model, wrapper)
        # An assigner that finds masks may use them: only for those that train with them.
        self.samples = self.truths(args.batch, loads_masks(cfg.get('train_dataloader')))
        self.in_loss, self.in_losses = [], False
        self.time_losses()

    def inputs(self, pictures):
        """Pictures as the pipeline packs them."""
        packed = [self.pipeline(dict(img=picture, img_id=0)) for picture in pictures]
        return {key: [sample[key] for sample in packed] for key in packed[0]}

    def truths(self, number, with_masks):
        """Random boxes of a tenth to a half of the image, and if wanted masks that fill them."""
        height, width = self.single['inputs'][0].shape[-2:]
        num_classes = number_of_classes(self.model)
        samples = []
        generator = torch.Generator().manual_seed(0)
        for _ in range(number):
            size = torch.tensor([width, height])
            side = (0.1 + 0.4 * torch.rand(self.args.boxes, 2, generator=generator)) * size
            corner = torch.rand(self.args.boxes, 2, generator=generator) * (size - side)
            labels = torch.randint(num_classes, (self.args.boxes,), generator=generator)
            boxes = torch.cat([corner, corner + side], 1)
            truth = InstanceData(bboxes=boxes, labels=labels)
            if with_masks:
                outlines = boxes[:, [0, 1, 2, 1, 2, 3, 0, 3]].double().numpy()
                truth.masks = PolygonMasks([[outline] for outline in outlines], height, width)
            meta = dict(
                img_shape=(height, width), ori_shape=(height, width), scale_factor=(1.0, 1.0)
            )
            sample = DetDataSample(metainfo=meta, gt_instances=truth)
            sample.ignored_instances = InstanceData(
                bboxes=torch.zeros(0, 4), labels=torch.zeros(0, dtype=torch.long)
            )
            samples.append(sample)
        return samples

    def time_losses(self):
        """Note how long the heads take for their targets and losses, all of a step together."""
        for module in self.model.modules():
            for name in LOSSES:
                if hasattr(module, name):
                    setattr(module, name, self.timed(getattr(module, name)))

    def timed(self, losses):
        @wraps(losses)
        def function(*args, **kwargs):
            if self.in_losses:  # of a head that asks another: it is counted already
                return losses(*args, **kwargs)
            self.in_losses = True
            start = mark(self.device)
            result = losses(*args, **kwargs)
            self.in_loss[-1].append((start, mark(self.device)))
            self.in_losses = False
            return result

        return function

    def loss_ms(self, steps):
        """Of the last steps, each."""
        return [sum(between(*pair) for pair in step) for step in self.in_loss[-steps:]]

    def autocast(self):
        kind = torch.device(self.device).type
        dtype = torch.bfloat16 if kind == 'cpu' else torch.float16
        return torch.autocast(kind, dtype, enabled=self.amp)

    def network(self):
        self.run_network(self.single)

    def network_throughput(self):
        self.run_network(self.batch)

    @torch.no_grad()
    def run_network(self, images):
        self.model.eval()
        data = self.model.data_preprocessor(images)
        with self.autocast():
            self.model(data['inputs'], data['data_samples'], mode='tensor')

    @torch.no_grad()
    def prediction(self):
        self.model.eval()
        with self.autocast():
            self.model.test_step(self.inputs([next(self.pictures)]))

    @torch.no_grad()
    def throughput(self):
        self.model.eval()
        with self.autocast():
            self.model.test_step(self.picture_batch)

    def step(self):
        self.model.train()
        self.in_loss.append([])
        samples = [sample.clone() for sample in self.samples]
        data = dict(inputs=list(self.batch['inputs']), data_samples=samples)
        self.model.train_step(data, self.optimizer)

    def flops(self):
        """Multiply-adds of one forward pass."""
        self.model.eval()
        data = self.model.data_preprocessor(self.single)
        forward = self.model.forward
        self.model.forward = partial(forward, data_samples=data['data_samples'])
        try:
            found = get_model_complexity_info(
                self.model, None, inputs=data['inputs'], show_table=False, show_arch=False
            )
        finally:
            self.model.forward = forward
        return found['flops']


def number_of_classes(model):
    """The largest that a head has; an RPN has one class. Backbones may have ImageNet's."""
    return max(
        getattr(module, 'num_classes', None) or 1
        for name, module in model.named_modules()
        if not name.startswith('backbone')
    )


def without_batch_augments(part):
    """Multi-scale training would make the steps differ; a preprocessor may know of none."""
    if isinstance(part, dict):
        if 'batch_augments' in part:
            part['batch_augments'] = None
        for child in part.values():
            without_batch_augments(child)


def loads_masks(part):
    """Whether a pipeline somewhere in this part of a config loads masks."""
    if isinstance(part, dict):
        return part.get('with_mask', False) or any(map(loads_masks, part.values()))
    return isinstance(part, (list, tuple)) and any(map(loads_masks, part))


def array_pipeline(cfg, size):
    """The test pipeline for an image in memory, without truths, to another size if wanted."""
    steps = []
    for step in with_grey_arrays(unwrapped(cfg.test_dataloader.dataset).pipeline):
        if 'LoadImage' in type_name(step):
            to_float32 = step.get('to_float32', False)
            step = dict(type='mmdet.LoadImageFromNDArray', to_float32=to_float32)
        elif type_name(step).endswith('LoadAnnotations'):
            continue
        steps.append(step)
    return resized(steps, size)


def resized(pipeline, size):
    """A test pipeline that makes images of another size, if wanted.

    All but Darknet's letterbox stretch them: MMDetection's ways to keep the ratio would not end at
    one size.
    """
    if not size:
        return pipeline
    steps = []
    for step in pipeline:
        kind = type_name(step)
        if kind == 'DarknetResize':
            step = dict(step, scale=tuple(size))
        elif kind.endswith('Resize'):
            step = dict(type='Resize', scale=tuple(size), keep_ratio=False)
        if kind != 'Pad':  # CenterNet's crop ends so, too, and says where
            steps.append(step)
    return steps


def evaluate(path, checkpoint, folder, size=None, amp=False):
    """AP50 and AP of a checkpoint on the config's test set, in mixed precision or not."""
    cfg = Config.fromfile(path)
    cfg.work_dir = str(folder)
    begin_anew(cfg)  # else its test would build the training data
    cfg.load_from = str(verify_checkpoint(checkpoint))
    for dataset in leaves(cfg.test_dataloader.dataset):
        dataset.pipeline = resized(dataset.pipeline, size)
    # Of its own: MMEngine would write to the folder of the visualizer of that name made first.
    cfg.visualizer = dict(type='DetLocalVisualizer', name=str(folder), vis_backends=[])
    cfg.test_cfg.fp16 = amp  # MMEngine's mixed precision, on a CPU of bfloat16
    metrics = Runner.from_cfg(cfg).test()
    found = averages(metrics, evaluators(cfg, 'test'))
    if not found:
        raise ValueError(f'there is no AP50 among the metrics {sorted(metrics)}')
    return found


@contextmanager
def noted(failed, what, names):
    """Whatever fails within is noted by its names, so that all else goes on."""
    try:
        yield
    except Exception as error:
        name = ', '.join(filter(None, [*names, what]))
        failed[name] = f'{type(error).__name__}: {error}'
        print(f'{name} failed: {failed[name]}')


def measure(args):
    """One row for each detector and mode; what failed, by name."""
    contestants, rows, failed = {}, {}, {}
    works = {function: {} for function in FUNCTIONS}
    use(args.device)
    about = dict(machine=machine(args.device), batch=args.batch)
    print(about['machine'])
    checkpoints = args.checkpoints or len(args.configs) * ['-']
    for path, name, checkpoint in zip(args.configs, args.names, checkpoints):
        for mode in args.modes:
            key = name, mode
            with noted(failed, '', key):
                contestants[key] = Contestant(path, mode, checkpoint, args)
            if key not in contestants:
                continue
            weights = contestants[key].model.parameters()
            parameters = sum(weight.numel() for weight in weights) / 1e6
            rows[key] = dict(config=name, mode=mode, parameters_m=parameters, **about)
            with noted(failed, COLUMNS['gflops'], key):
                rows[key]['gflops'] = contestants[key].flops() / 1e9
            for function, column in FUNCTIONS.items():
                with noted(failed, COLUMNS[column], key):
                    getattr(contestants[key], function)()
                    works[function][key] = getattr(contestants[key], function)
    for function, column in FUNCTIONS.items():
        print(f'\nTiming {COLUMNS[column]}')
        # All are there now: together they may need more memory than the machine has.
        guard = partial(noted, failed, COLUMNS[column])
        times = alternate(works[function], args.device, args.repeat, guard=guard)
        for key, values in times.items():
            median = statistics.median(values)
            per_second = column.endswith('images_s')
            rows[key][column] = 1000 * args.batch / median if per_second else median
    for key, row in rows.items():
        if 'step_ms' not in row:
            continue
        losses = statistics.median(contestants[key].loss_ms(args.repeat))
        if losses:  # else its losses have other names
            row['loss_share'] = losses / row['step_ms']
        with noted(failed, COLUMNS['memory_mb'], key):
            row['memory_mb'] = peak_memory(args.device, contestants[key].step) / 1e6
    return [row for row in rows.values() if {*row} & {*FUNCTIONS.values()}], failed


def read_times(file):
    """The rows of an earlier run."""
    _, rows = read_table(file)
    lacking = {key for key in ('config', 'mode', *ABOUT) if not all(row.get(key) for row in rows)}
    # What failed then is empty.
    lacking |= {key for key in FUNCTIONS.values() for row in rows if row.get(key) is None}
    if not rows or lacking:
        raise SystemExit(f'{file}: no table of tools/benchmark.py, it lacks {sorted(lacking)}')
    types = dict(config=str, mode=str, machine=str, batch=int)
    try:
        return [
            {key: types.get(key, float)(value) for key, value in row.items() if value}
            for row in rows
        ]
    except ValueError as error:
        raise SystemExit(f'{file}: no table of tools/benchmark.py: {error}') from error


def add_accuracy(args, rows):
    """Accuracies from a study's table and from checkpoints; what failed, by name."""
    accuracy, failed = dict(args.accuracies), {}
    if args.study:
        unknown = sorted({row['config'] for row in rows} - set(accuracy))
        if unknown:
            print(f'{args.study} has no rows named {unknown}; it has {sorted(accuracy)}')
    for row in rows:
        row.update(accuracy.get(row['config'], {}))
    for path, name, checkpoint in zip(args.configs, args.names, args.checkpoints or ()):
        own = [row for row in rows if row['config'] == name and checkpoint != '-']
        for amp in sorted({MODES[row['mode']][0] for row in own}):
            same = [row for row in own if MODES[row['mode']][0] == amp]
            names = [name, *(row['mode'] for row in same)]
            # Windows cannot delete the logs, which MMEngine leaves open.
            scratch = TemporaryDirectory(ignore_cleanup_errors=True)
            with noted(failed, 'accuracy', names), scratch as folder:
                found = evaluate(path, checkpoint, folder, args.size, amp)
                for row in same:
                    row.update(found)
    return failed


def markdown(rows):
    columns = [key for key in COLUMNS if any(key in row for row in rows)]
    lines = []
    for row in rows:
        cells = []
        for key in columns:
            value = row.get(key, '')
            if key in ('loss_share', 'AP50', 'AP') and value != '':
                value = f'{value:.1%}' if key == 'loss_share' else f'{value:.3f}'
            elif isinstance(value, float):
                value = f'{value:.1f}' if value < 100 else f'{value:.0f}'
            cells.append(value)
        lines.append(cells)
    return markdown_table([COLUMNS[key] for key in columns], lines)


def main(args=None):
    args = parse_args(args)
    rows, failed = (read_times(args.times), {}) if args.times else measure(args)
    if rows:
        failed |= add_accuracy(args, rows)
        text = f'{rows[0]["machine"]}; batches of {rows[0]["batch"]}\n\n{markdown(rows)}\n'
        text += ''.join(f'\n{name} failed: {error}\n' for name, error in failed.items())
        head = [*COLUMNS, *ABOUT]
        table = csv_text(head, [[row.get(key) for key in head] for row in rows])
        print(f'\n{text}')
        write_text(args.out / 'benchmark.md', text)
        write_text(args.out / 'benchmark.csv', table)
        write_png(args.out / 'benchmark.png', draw(rows), dpi=90)
        print(f'Tables and picture: {args.out}')
    if failed:
        raise SystemExit(f'{len(failed)} failed: {failed}')


if __name__ == '__main__':
    main()
