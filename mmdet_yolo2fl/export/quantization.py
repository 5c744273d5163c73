"""8-bit ONNX files by ONNX Runtime's static quantization, and how well they detect."""

import contextlib
import logging
import os
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import onnx
from mmcv.transforms import Compose
from mmdet.registry import DATASETS
from mmengine.config import Config
from mmengine.evaluator import Evaluator
from mmengine.runner import Runner
from mmengine.structures import InstanceData
from onnxruntime.quantization import (
    CalibrationDataReader,
    CalibrationMethod,
    QuantFormat,
    QuantType,
    quantize_static,
)
from onnxruntime.quantization.shape_inference import quant_pre_process
from rich.progress import track
from torch import Tensor, nn

from ..config_parts import leaf_datasets, type_name, unwrapped
from .check import in_photo
from .networks import as_inputs, input_channels, loaded

# All that our networks consist of. What decodes the map is left in float.
OPERATORS = ['Conv', 'Relu', 'Clip', 'LeakyRelu', 'MaxPool', 'Add', 'Concat', 'Slice', 'Reshape']
METHODS = {
    'minmax': CalibrationMethod.MinMax,
    'percentile': CalibrationMethod.Percentile,
    'entropy': CalibrationMethod.Entropy,
}


def check_exported(path: Path, detector: nn.Module) -> None:
    """Refuse what is no float ONNX file of a detector.

    Args:
        path (Path): Of the file.
        detector (nn.Module): A detector of the config that it was exported from.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it was not exported from such a detector, or is quantized already.
    """
    if not path.is_file():
        raise FileNotFoundError(f'{path}: there is no such file; tools/export.py makes it')
    try:
        model = onnx.load(path)
        onnx.checker.check_model(model)
    except Exception as error:  # those of protobuf have no public name
        raise ValueError(f'{path}: not an ONNX file, or a damaged one') from error
    channels = {
        one.name: one.type.tensor_type.shape.dim[1].dim_value
        for one in (*model.graph.input, *model.graph.output)
        if len(one.type.tensor_type.shape.dim) > 1
    }
    if 'images' not in channels or not {'map', 'boxes'} & {*channels}:
        raise ValueError(f'{path}: not made by tools/export.py, it has {sorted(channels)}')
    if any(node.op_type == 'QuantizeLinear' for node in model.graph.node):
        raise ValueError(f'{path}: quantized already; give the file that it was made from')
    head = detector.bbox_head
    expected = dict(images=input_channels(detector), map=head.num_anchors * head.num_attrib)
    for name, number in expected.items():
        if channels.get(name, number) != number:
            raise ValueError(
                f'{path}: {name} has {channels[name]} channels, but {number} in this config'
            )


def training_images(cfg: Config, detector: nn.Module, number: int) -> list[Tensor]:
    """Images of the training set as the network sees them in a test: without augmentation.

    Args:
        cfg (Config): Of the detector.
        detector (nn.Module): It normalizes them.
        number (int): How many, at most; drawn, always the same.

    Returns:
        list[Tensor]: Each ``(1, C, H, W)``.

    Raises:
        ValueError: If there are none.
    """
    paths = []
    for leaf, _ in leaf_datasets(cfg.train_dataloader.dataset):
        # MMEngine cannot serialize an empty set, and would not say so.
        data = DATASETS.build({**leaf, 'pipeline': [], 'serialize_data': False})
        paths += [data.get_data_info(index)['img_path'] for index in range(len(data))]
    if not paths:
        raise ValueError(f'{cfg.filename}: there is no image in its training set')
    chosen = np.random.default_rng(0).permutation(len(paths))[:number]
    steps = unwrapped(cfg.test_dataloader.dataset).pipeline
    pipeline = Compose([step for step in steps if type_name(step) != 'LoadAnnotations'])
    return as_inputs(detector, (loaded(pipeline, paths[i]) for i in chosen))


def quantize(
    source: Path,
    path: Path,
    images: list[Tensor],
    method: str = 'minmax',
    float_last: bool = False,
    full_range: bool = False,
    signed: bool = False,
) -> None:
    """Write a file with weights of 8 bits, a scale for each filter, and activations of 8 bits.

    Operators are kept, with ``QuantizeLinear`` and ``DequantizeLinear`` between them (QDQ). What
    decodes the map, in a file that does so, stays in float.

    Args:
        source (Path): A float file of ours.
        path (Path): Where to; written whole or not at all.
        images (list[Tensor]): ``(1, C, H, W)``, from which the ranges of activations are taken.
        method (str): How: a key of ``METHODS``. Defaults to 'minmax'.
        float_last (bool): Leave the last convolution, hence the map, in float. Defaults to False.
        full_range (bool): Use all 8 bits of the weights, for processors with VNNI and others. On
            those with AVX2 or AVX-512 alone sums of their products saturate, hence by default 7.
        signed (bool): Activations from -128 to 127, not from 0 to 255, as some NPUs want them.

    Raises:
        ValueError: If an image has not the size that the file was made for, or the method needs
            images of one size.
    """
    size = [dim.dim_value for dim in onnx.load(source).graph.input[0].type.tensor_type.shape.dim]
    for image in images:
        if any(one and one != other for one, other in zip(size, image.shape)):
            raise ValueError(
                f'the file was made for {size[3]}x{size[2]}, but the test pipeline of the config '
                f'makes {image.shape[3]}x{image.shape[2]}: give --size {size[3]} {size[2]}, '
                'or where it keeps the ratio of the images the file of free shapes'
            )
    if method != 'minmax' and len({image.shape for image in images}) > 1:
        raise ValueError(
            f'{method}: ONNX Runtime takes images of one size for it, and the test pipeline of the '
            'config keeps the ratio of the images: take minmax, or a config that stretches them'
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    # Beside the result, where a renamed file may go.
    with tempfile.TemporaryDirectory(dir=path.parent) as folder, _quiet():
        prepared, finished = Path(folder, 'prepared.onnx'), Path(folder, 'finished.onnx')
        # Our shapes are known without sympy.
        quant_pre_process(source, prepared, skip_symbolic_shape=True)
        network, last = _network(onnx.load(prepared))
        quantize_static(
            prepared,
            finished,
            _Reader(images),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=OPERATORS,
            nodes_to_quantize=[name for name in network if not (float_last and name == last)],
            per_channel=True,
            reduce_range=not full_range,
            activation_type=QuantType.QInt8 if signed else QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            calibrate_method=METHODS[method],
        )
        os.replace(finished, path)


def evaluate(
    cfg: Config,
    detector: nn.Module,
    predict: Callable[[Tensor], list[InstanceData]],
    title: str,
) -> dict[str, float]:
    """Metrics of a file on the test set, by the config's own evaluator.

    Args:
        cfg (Config): Of the detector.
        detector (nn.Module): It normalizes the images.
        predict (Callable): What :func:`~mmdet_yolo2fl.export.check.onnx_runner` returns.
        title (str): Of the progress bar.
    """
    loader_cfg = cfg.test_dataloader.copy()
    loader_cfg.update(batch_size=1, num_workers=0, persistent_workers=False)
    loader_cfg.pop('prefetch_factor', None)  # of workers
    loader = Runner.build_dataloader(loader_cfg)
    evaluator = Evaluator(cfg.test_evaluator)
    evaluator.dataset_meta = loader.dataset.metainfo
    for data in track(loader, title):
        data = detector.data_preprocessor(data, False)
        (found,) = predict(data['inputs'])
        samples = data['data_samples']
        smallest = detector.bbox_head.test_cfg.get('min_bbox_size', -1)
        detector.add_pred_to_datasample(samples, [_in_photo(found, samples[0], smallest)])
        evaluator.process(data_samples=samples, data_batch=data)
    return evaluator.evaluate(len(loader.dataset))


def _in_photo(found: InstanceData, sample, smallest: float) -> InstanceData:
    """Boxes in pixels of the photo, cut off at its borders, as the head has them, without those of
    which no more than ``smallest`` is left."""
    boxes = in_photo(found.bboxes, sample)
    found = InstanceData(bboxes=boxes, scores=found.scores, labels=found.labels)
    is_kept = ((boxes[:, 2:] - boxes[:, :2]) > smallest).all(1)
    return found[is_kept] if smallest >= 0 else found


def _network(model: onnx.ModelProto) -> tuple[list[str], str]:
    """Names of the convolutions and of all that leads to one; the last convolution."""
    needed, names, last = set(), [], None
    for node in reversed(model.graph.node):  # in the order in which they run
        if node.op_type == 'Conv' or needed & {*node.output}:
            needed |= {*node.input}
            names.append(node.name)
            last = last or node.name
    return names, last


class _Reader(CalibrationDataReader):
    """ONNX Runtime asks it for one image after the other."""

    def __init__(self, images: Iterable[Tensor]) -> None:
        self.images = iter(track(images, 'Calibrating'))

    def get_next(self) -> dict | None:
        image = next(self.images, None)
        return None if image is None else dict(images=image.numpy())


@contextlib.contextmanager
def _quiet():
    """The quantizer tells the root logger to do what has been done."""
    logger = logging.getLogger()
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
