"""Times the same weights in PyTorch, ONNX Runtime, OpenVINO and OpenCV's DNN module.

python tools/benchmark_deploy.py                          # YOLOv2 and Tiny at 416, configs/edge
python tools/benchmark_deploy.py CONFIG --checkpoints CHECKPOINT --threads 4
python tools/benchmark_deploy.py CONFIG --size 320 320 --paths opencv onnxruntime openvino

On the CPU, one image at a time, from the normalized image to the prediction map, with batch
normalization folded. Before anything is timed, every output is compared with PyTorch's. All take
turns, so that a busy machine slows all alike: read the ratios. They are to the faster of OpenCV's
two readers, of ONNX and of Darknet's files. Without a checkpoint the weights are drawn, which costs
the same time. Prints a Markdown table for each number of threads; what cannot run on this machine
is named below it.
OpenVINO: pip install 'mmdet_yolo2fl[openvino]'.
"""

import argparse
import statistics
import tempfile
from copy import deepcopy
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import torch
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.utils import digit_version
from torch import nn

from mmdet_yolo2fl import export
from mmdet_yolo2fl.checkpoints import load_only_weights, verify_initial_checkpoints
from mmdet_yolo2fl.darknet import mmdet_to_darknet
from mmdet_yolo2fl.darknet.opencv import OpenCVNetwork
from mmdet_yolo2fl.engine.optimizers.amp_optim_wrapper import has_fast_bfloat16
from mmdet_yolo2fl.measure import alternate, machine, names_of
from mmdet_yolo2fl.resizing import size_at_test
from mmdet_yolo2fl.tables import markdown_table

CONFIGS = Path(__file__).parents[1] / 'configs'
DEFAULTS = ['voc0712/yolov2.py', 'voc0712/yolov2_tiny.py']
DEFAULTS += [
    f'edge/yolov2_{net}_{size}.py' for net in ('tiny', 'mobilenetv2') for size in ('224', '320x240')
]
NAMES = {
    'torch': 'PyTorch',
    'channels_last': 'PyTorch, channels_last',
    'bfloat16': 'PyTorch, bfloat16, channels_last',
    'compile': 'torch.compile, frozen',
    'onnxruntime': 'ONNX Runtime',
    'onnxruntime-int8': 'ONNX Runtime, int8',
    'openvino': 'OpenVINO',
    'openvino-int8': 'OpenVINO, int8',
    'opencv': 'OpenCV, of ONNX',
    'opencv-darknet': "OpenCV, of Darknet's files",
}
OPENCV = ('opencv', 'opencv-darknet')
INEXACT = ('bfloat16', 'onnxruntime-int8', 'openvino-int8')
# Largest difference to PyTorch, relative to the largest magnitude, of the others.
TOLERANCE = 1e-3


def parse_args(args=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('configs', nargs='*', type=Path, help='config files')
    parser.add_argument('--checkpoints', nargs='+', help="one for each config, '-' for none")
    parser.add_argument(
        '--size',
        type=int,
        nargs=2,
        metavar=('WIDTH', 'HEIGHT'),
        help="of the input (default: of each config's test pipeline)",
    )
    parser.add_argument('--paths', nargs='+', choices=NAMES, default=list(NAMES))
    parser.add_argument('--threads', type=int, nargs='+', default=[1, 2], help='default: 1 2')
    parser.add_argument('--repeat', type=int, default=20, help='measurements (default: 20)')
    args = parser.parse_args(args)
    args.configs = args.configs or [CONFIGS / name for name in DEFAULTS]
    missing = [str(path) for path in args.configs if not path.is_file()]
    if missing:
        parser.error(f'there is no such config file: {", ".join(missing)}')
    args.checkpoints = args.checkpoints or ['-'] * len(args.configs)
    if len(args.checkpoints) != len(args.configs):
        parser.error(f'--checkpoints: {len(args.checkpoints)} for {len(args.configs)} configs')
    if min(args.threads) < 1 or args.repeat < 1:
        parser.error('--threads and --repeat must be at least 1')
    if digit_version(torch.__version__) < digit_version('2.5'):
        parser.error(
            f'PyTorch {torch.__version__} cannot write ONNX, which is compared: it needs 2.5'
        )
    if not set(args.paths) & set(OPENCV):
        parser.error(f'--paths must have one of {", ".join(OPENCV)}, to compare with')
    return args


def drawn_weights(cfg, path):
    """A checkpoint whose batch normalization is not the identity."""
    torch.manual_seed(0)
    load_only_weights()
    verify_initial_checkpoints(cfg.model)
    model = MODELS.build(cfg.model)
    model.init_weights()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(std=0.1)
            module.running_var.uniform_(0.5, 1.5)
    torch.save(model.state_dict(), path)
    return path


class Contestants:
    """One detector in all its forms.

    Args:
        path (Path): Its config.
        checkpoint (str): Its checkpoint, or '-'.
        size (tuple[int, int] | None): Width and height of the input.
        folder (Path): For files.
    """

    def __init__(self, path, checkpoint, size, folder):
        self.folder, self.cfg = folder, Config.fromfile(path)
        init_default_scope(self.cfg.get('default_scope', 'mmdet'))
        self.checkpoint = checkpoint
        if checkpoint == '-':
            self.checkpoint = drawn_weights(self.cfg, folder / 'weights.pth')
        self.size = size or size_at_test(self.cfg)
        if self.size is None:
            raise ValueError(f'{path}: its test pipeline has no size: give one by --size')
        detector = export.load_yolov2(self.cfg, self.checkpoint)
        self.network = export.RawNetwork(detector).eval()
        channels = export.input_channels(self.network)
        generator = torch.Generator().manual_seed(0)
        self.image = torch.rand(1, channels, *self.size[::-1], generator=generator)
        self.onnx = folder / 'network.onnx'
        export.export_onnx(self.network, self.onnx, self.size)
        with torch.inference_mode():
            self.expected = self.network(self.image).numpy()

    def functions(self, names, threads):
        """What can be timed here; and of the others, why not."""
        torch.set_num_threads(threads)
        cv2.setNumThreads(threads)
        found, failed = {}, {}
        for name in names:
            try:
                function = getattr(self, f'make_{name.replace("-", "_")}')(threads)
                difference = self.difference(function())
            except Exception as error:  # whatever is wrong with it, the others go on
                reason = str(error).strip() or type(error).__name__
                failed[name] = reason.splitlines()[0]
                continue
            if name not in INEXACT and not difference < TOLERANCE:
                raise SystemExit(
                    f'{self.cfg.filename}: {NAMES[name]} differs from PyTorch by {difference:.1e} '
                    'of the largest output'
                )
            found[name] = function, difference
        return found, failed

    def difference(self, output):
        """The largest, relative to the largest magnitude."""
        output = np.asarray(output.float() if isinstance(output, torch.Tensor) else output)
        return float(np.abs(output - self.expected).max() / np.abs(self.expected).max())

    def run_torch(self, network, image):
        with torch.inference_mode():
            return network(image)

    def make_torch(self, threads):
        return partial(self.run_torch, self.network, self.image)

    def make_channels_last(self, threads, dtype=torch.float32):
        network = deepcopy(self.network).to(dtype, memory_format=torch.channels_last)
        image = self.image.to(dtype, memory_format=torch.channels_last)
        return partial(self.run_torch, network, image)

    def make_bfloat16(self, threads):
        if not has_fast_bfloat16():
            raise ValueError('this processor has no instructions for it')
        return self.make_channels_last(threads, torch.bfloat16)

    def make_compile(self, threads):
        torch.compiler.reset()
        compiled = torch.compile(deepcopy(self.network), options=dict(freezing=True))
        with torch.no_grad():
            compiled(self.image)

        def run():
            with torch.no_grad():
                return compiled(self.image)

        return run

    def make_onnxruntime(self, threads, path=None):
        run = export.session(path or self.onnx, threads).run
        return lambda: run(None, dict(images=self.image.numpy()))[0]

    def make_openvino(self, threads, path=None):
        import openvino

        options = dict(
            INFERENCE_NUM_THREADS=threads,
            PERFORMANCE_HINT='LATENCY',
            INFERENCE_PRECISION_HINT='f32',
        )
        compiled = openvino.Core().compile_model(str(path or self.onnx), 'CPU', options)
        return lambda: compiled(self.image.numpy())[0]

    def make_onnxruntime_int8(self, threads):
        return self.make_onnxruntime(threads, self.quantized())

    def make_openvino_int8(self, threads):
        return self.make_openvino(threads, self.quantized())

    def quantized(self):
        from mmdet_yolo2fl.export.quantization import quantize

        path = self.folder / 'network_int8.onnx'
        if not path.exists():
            quantize(self.onnx, path, [self.image])
        return path

    def make_opencv(self, threads):
        network = cv2.dnn.readNetFromONNX(str(self.onnx))

        def run():
            network.setInput(self.image.numpy())
            return network.forward()

        return run

    def make_opencv_darknet(self, threads):
        paths = mmdet_to_darknet(
            self.cfg, self.checkpoint, self.folder, opencv_thresh=0.3, input_size=self.size
        )
        network = OpenCVNetwork(*paths[:2])
        return lambda: network.prediction_map(self.image).numpy()


def measure(contestants, names, threads, repeat):
    """Median milliseconds and the difference of each path; and what failed."""
    functions, failed = contestants.functions(names, threads)
    times = alternate({name: one[0] for name, one in functions.items()}, 'cpu', repeat)
    return {
        name: (statistics.median(values), functions[name][1]) for name, values in times.items()
    }, failed


def markdown(results):
    """A line for each path, a column for each detector: milliseconds, and times OpenCV's speed.

    Args:
        results (dict): Of each detector a dict of each path's (milliseconds, difference).
    """
    names = [name for name in NAMES if any(name in one for one in results.values())]
    lines = []
    for name in names:
        cells = []
        for found in results.values():
            base = [found[other][0] for other in OPENCV if other in found]
            if name not in found:
                cells.append('')
            elif base:
                cells.append(f'{found[name][0]:.1f} ({min(base) / found[name][0]:.2f})')
            else:
                cells.append(f'{found[name][0]:.1f}')
        lines.append([NAMES[name], *cells])
    worst = {name: max(one[name][1] for one in results.values() if name in one) for name in names}
    differences = ', '.join(f'{NAMES[name]} {value:.0e}' for name, value in worst.items())
    table = markdown_table(['', *results], lines)
    return f'{table}\n\nLargest difference to PyTorch: {differences}'


def main(args=None):
    args = parse_args(args)
    with tempfile.TemporaryDirectory() as folder:
        contestants = {}
        names = names_of(args.configs, args.checkpoints)
        for number, (path, checkpoint) in enumerate(zip(args.configs, args.checkpoints)):
            own = Path(folder, str(number))
            own.mkdir()
            try:
                one = Contestants(path, checkpoint, args.size, own)
            except (OSError, ValueError) as error:
                raise SystemExit(str(error)) from error
            contestants[f'{names[number]}, {one.size[0]}x{one.size[1]}'] = one
        for threads in args.threads:
            results, reasons = {}, {}
            for name, one in contestants.items():
                print(f'\n{name}, {threads} threads')
                results[name], failed = measure(one, args.paths, threads, args.repeat)
                for key, reason in failed.items():
                    reasons.setdefault(f'{NAMES[key]}: {reason}', []).append(name)
            print(f'\n\n{machine("cpu")}, OpenCV {cv2.__version__}\n')
            print(f'Milliseconds (times as fast as OpenCV), {threads} threads:\n')
            print(markdown(results))
            for reason, names in reasons.items():
                print(f'\nNot measured ({"; ".join(names)}): {reason}')


if __name__ == '__main__':
    main()
