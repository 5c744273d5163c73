"""Quantizes an exported ONNX file to 8 bits, and measures what that costs and gains.

python tools/export.py CONFIG CHECKPOINT --out exported
python tools/quantize.py CONFIG exported/NAME.onnx
python tools/quantize.py CONFIG exported/NAME_nms.onnx --calibration-images 200

Writes NAME_int8.onnx beside the file: weights of 8 bits with a scale for each filter, activations
of 8 bits whose ranges come from images of the config's training set, without augmentation (ONNX
Runtime's static quantization, QDQ). Programs run it as they run the float file. Both are then
evaluated on the config's test set, with the head's own decoding and suppression, and timed on one
image.

By default weights use 7 of the 8 bits, since processors with AVX2 or AVX-512 but without VNNI
saturate otherwise; --full-range is for others.
"""

import sys

try:
    from mmdet_yolo2fl.command_line import add_config_options, read_config
except ImportError as error:
    if error.name == 'mmdet_yolo2fl':
        sys.exit(
            'The package is not installed in this Python: `source .venv/bin/activate` after '
            '`make env` in its checkout, or `pip install -e .` there'
        )
    sys.exit(str(error))

import argparse
import importlib.util
import statistics
from pathlib import Path

from mmdet.registry import MODELS
from mmengine.registry import init_default_scope

from mmdet_yolo2fl.measure import alternate
from mmdet_yolo2fl.models import YOLOV2Head
from mmdet_yolo2fl.resizing import resize_to
from mmdet_yolo2fl.tables import markdown_table


def make_parser():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('config', help='config file')
    parser.add_argument('onnx', type=Path, help='what tools/export.py wrote from it')
    parser.add_argument(
        '--size',
        type=int,
        nargs=2,
        metavar=('WIDTH', 'HEIGHT'),
        help="that tools/export.py was given (default: the test pipeline's)",
    )
    parser.add_argument('--out', type=Path, help='file (default: NAME_int8.onnx beside the other)')
    parser.add_argument(
        '--calibration-images',
        type=int,
        help='of the training set (default: 100; 20 for the methods that keep every activation)',
    )
    parser.add_argument(
        '--method',
        choices=('minmax', 'percentile', 'entropy'),
        default='minmax',
        help='how their ranges are taken (default: minmax); the others keep every activation of '
        'every image in memory, of Darknet-19 at 416x416 about 0.14 GB an image',
    )
    parser.add_argument(
        '--float-last', action='store_true', help='leave the last convolution in float'
    )
    parser.add_argument('--full-range', action='store_true', help='weights use all 8 bits')
    parser.add_argument(
        '--signed',
        action='store_true',
        help='activations are int8, as NPUs such as the STM32N6 want them, not uint8',
    )
    parser.add_argument('--no-evaluation', action='store_true', help='only quantize and time')
    parser.add_argument('--threads', type=int, default=1, help='of the timing (default: 1)')
    parser.add_argument('--repeat', type=int, default=20, help='timings (default: 20)')
    add_config_options(parser)
    return parser


def check_arguments(args, parser):
    for name in ('onnx', 'onnxruntime'):
        if importlib.util.find_spec(name) is None:
            parser.error(f"quantization needs {name}: pip install 'mmdet_yolo2fl[export]'")
    if args.calibration_images is None:
        args.calibration_images = 100 if args.method == 'minmax' else 20
    for name in ('calibration_images', 'threads', 'repeat'):
        if getattr(args, name) < 1:
            parser.error(f'--{name.replace("_", "-")} must be at least 1')
    args.out = args.out or args.onnx.with_name(f'{args.onnx.stem}_int8.onnx')
    if args.size and min(args.size) < 1:
        parser.error('--size takes two positive numbers')
    if args.out.resolve() == args.onnx.resolve():
        parser.error(f'--out: {args.out} is the file to be quantized')


def time_files(paths, image, threads, repeat):
    """Median milliseconds of each file, in turn."""
    from mmdet_yolo2fl.export.check import session

    functions = {}
    for path in paths:
        run = session(path, threads).run
        functions[path] = lambda run=run: run(None, dict(images=image.numpy()))
    return {
        path: statistics.median(times)
        for path, times in alternate(functions, 'cpu', repeat).items()
    }


def table(paths, milliseconds, metrics):
    """Both files side by side, in Markdown."""
    first, second = paths
    sizes = [path.stat().st_size / 1e6 for path in paths]
    lines = [['MB', *(f'{size:.2f}' for size in sizes), f'/ {sizes[0] / sizes[1]:.1f}']]
    times = [milliseconds[path] for path in paths]
    lines.append(['ms', *(f'{time:.1f}' for time in times), f'/ {times[0] / times[1]:.2f}'])
    for key, value in metrics[0].items() if metrics else ():
        other = metrics[1].get(key, 0.0)  # CocoMetric says nothing of a file that finds nothing
        lines.append([key.split('/')[-1], f'{value:.3f}', f'{other:.3f}', f'{other - value:+.3f}'])
    return markdown_table(['', first.name, second.name, 'difference'], lines)


def main(args=None):
    parser = make_parser()
    args = parser.parse_args(args)
    check_arguments(args, parser)
    from mmdet_yolo2fl.export import quantization
    from mmdet_yolo2fl.export.check import onnx_runner

    cfg = read_config(args, parser, 'model', 'train_dataloader', 'test_dataloader')
    init_default_scope(cfg.get('default_scope', 'mmdet'))
    detector = MODELS.build(cfg.model).eval()
    if not isinstance(getattr(detector, 'bbox_head', None), YOLOV2Head):
        parser.error(f'{args.config}: only a YOLOV2Head has been exported')
    try:
        quantization.check_exported(args.onnx, detector)
        resize_to(cfg.test_dataloader.dataset, args.size)
        images = quantization.training_images(cfg, detector, args.calibration_images)
        quantization.quantize(
            args.onnx,
            args.out,
            images,
            method=args.method,
            float_last=args.float_last,
            full_range=args.full_range,
            signed=args.signed,
        )
    except (OSError, ValueError) as error:
        parser.error(str(error))
    print(f'{args.out}, from {len(images)} images of the training set')
    paths, metrics = (args.onnx, args.out), []
    for path in paths if not args.no_evaluation else ():
        predict = onnx_runner(path, detector)
        metrics.append(quantization.evaluate(cfg, detector, predict, f'Evaluating {path.name}'))
    milliseconds = time_files(paths, images[0], args.threads, args.repeat)
    height, width = images[0].shape[-2:]
    print(
        f'\n{table(paths, milliseconds, metrics)}\n\nAt {width}x{height}; ms: median of one image, '
        f'ONNX Runtime, {args.threads} threads'
    )


if __name__ == '__main__':
    main()
