"""ONNX and torch.export files of a detector."""

import contextlib
import io
import logging
import warnings
from pathlib import Path

import torch
from mmcv.cnn import fuse_conv_bn
from mmengine.config import Config
from mmengine.model import revert_sync_batchnorm
from torch import nn

from ..detector import load_detector
from ..models.dense_heads import YOLOV2Head
from ..whole_files import write_bytes
from .networks import DecodedNetwork, RawNetwork, input_channels

OPSET = 18


def load_yolov2(cfg: Config, checkpoint: str | Path, fuse: bool = True) -> nn.Module:
    """A YOLOv2 on the CPU, ready for inference, with the checkpoint's ``dataset_meta``.

    Args:
        cfg (Config): Its config.
        checkpoint (str | Path): File or address, verified before it is loaded.
        fuse (bool): Fold batch normalization into the convolutions. Defaults to True.

    Raises:
        FileNotFoundError: If there is no such checkpoint.
        ValueError: If it is refused, lacks weights, or the detector has no ``YOLOV2Head``.
    """
    detector, meta = load_detector(cfg, checkpoint)
    detector = revert_sync_batchnorm(detector)
    if not isinstance(getattr(detector, 'bbox_head', None), YOLOV2Head):
        raise ValueError(
            f'{cfg.filename}: only a YOLOV2Head can be exported, but the detector is a '
            f'{type(detector).__name__} with a '
            f'{type(getattr(detector, "bbox_head", None)).__name__}'
        )
    detector.dataset_meta = meta.get('dataset_meta') or {}
    return fuse_conv_bn(detector) if fuse else detector


def export_onnx(
    network: RawNetwork, path: Path, size: tuple[int, int], dynamic: bool = False
) -> None:
    """Write an ONNX file.

    Its output is ``map``, or ``boxes`` and ``scores`` of a :class:`DecodedNetwork`.

    Args:
        network (RawNetwork): Or a :class:`DecodedNetwork`.
        path (Path): Where to.
        size (tuple[int, int]): Width and height of the input, in pixels.
        dynamic (bool): Leave batch, height and width (multiples of 32) free. By default it is one
            image of this size, and no operator depends on shapes: what OpenCV and the
            compilers of small processors want.
    """
    names = ['boxes', 'scores'] if isinstance(network, DecodedNetwork) else ['map']
    _save(_onnx_model(network, size, names, dynamic), path)


def _onnx_model(network: RawNetwork, size: tuple[int, int], names: list[str], dynamic: bool):
    from .tidy import tidy

    example = torch.zeros(1, input_channels(network), size[1], size[0])
    if dynamic:
        example = _free_example(network, size)
    with _quiet(), torch.no_grad():
        program = torch.onnx.export(
            network.eval(),
            (example,),
            dynamo=True,
            opset_version=OPSET,
            input_names=['images'],
            output_names=names,
            dynamic_shapes=_free_shapes() if dynamic else None,
            verbose=False,
        )
    return tidy(program.model_proto)


def export_onnx_with_nms(
    network: DecodedNetwork, path: Path, size: tuple[int, int], test_cfg: dict
) -> None:
    """Write an ONNX file, its shapes free, that ends in ONNX's own ``NonMaxSuppression``.

    Its outputs, of K boxes of all images: ``boxes`` ``(K, 4)``, corners in pixels of the input;
    ``scores`` ``(K,)``; ``labels`` and ``image`` ``(K,)`` int64, the latter the place in the
    batch. A class of an image has ``max_per_img`` boxes at most.

    Args:
        network (DecodedNetwork): The network.
        path (Path): Where to.
        size (tuple[int, int]): As of :func:`export_onnx`.
        test_cfg (dict): Of the head: ``score_thr``, ``nms.iou_threshold``, ``max_per_img``.
    """
    import onnx
    from onnx import TensorProto, helper

    model = _onnx_model(network, size, ['all_boxes', 'all_scores'], dynamic=True)
    graph = model.graph

    def constant(name, kind, value):
        shape = [len(value)] if isinstance(value, list) else []
        tensor = helper.make_tensor(name, kind, shape, value if shape else [value])
        graph.initializer.append(tensor)
        return name

    integer, real = TensorProto.INT64, TensorProto.FLOAT
    suppression = [
        constant('max_per_class', integer, int(test_cfg['max_per_img'])),
        constant('iou_threshold', real, float(test_cfg['nms']['iou_threshold'])),
        constant('score_thr', real, float(test_cfg.get('score_thr', 0.0))),
    ]
    first, second = constant('first', integer, 0), constant('second', integer, 1)
    image_and_slot = constant('image_and_slot', integer, [0, 2])
    make = helper.make_node
    graph.node.extend(
        [
            # (image, class, slot) of what is kept
            make('NonMaxSuppression', ['all_boxes', 'all_scores', *suppression], ['kept']),
            make('Gather', ['kept', image_and_slot], ['places'], axis=1),
            make('GatherND', ['all_boxes', 'places'], ['boxes']),
            make('GatherND', ['all_scores', 'kept'], ['scores']),
            make('Gather', ['kept', second], ['labels'], axis=1),
            make('Gather', ['kept', first], ['image'], axis=1),
        ]
    )
    del graph.output[:]
    for name, kind, shape in (
        ('boxes', real, ['K', 4]),
        ('scores', real, ['K']),
        ('labels', integer, ['K']),
        ('image', integer, ['K']),
    ):
        graph.output.append(helper.make_tensor_value_info(name, kind, shape))
    onnx.checker.check_model(model, full_check=True)
    _save(model, path)


def export_torch(network: RawNetwork, path: Path, size: tuple[int, int]) -> None:
    """Write a ``torch.export`` program, which ``torch.export.load`` runs without this package.

    Args:
        network, path, size: As of :func:`export_onnx`; the same dimensions stay free, from 64
            pixels on.
    """
    example = _free_example(network, size)
    file = io.BytesIO()
    with _quiet(), torch.no_grad():
        program = torch.export.export(network.eval(), (example,), dynamic_shapes=_free_shapes())
        torch.export.save(program, file)
    write_bytes(path, file.getvalue())


def _free_shapes() -> tuple[dict]:
    batch, rows, columns = (torch.export.Dim(name) for name in ('batch', 'rows', 'columns'))
    return ({0: batch, 2: 32 * rows, 3: 32 * columns},)


def _free_example(network: RawNetwork, size: tuple[int, int]) -> torch.Tensor:
    """Two images of two cells or more: what is 1 in the example would be fixed to it."""
    return torch.zeros(2, input_channels(network), max(size[1], 64), max(size[0], 64))


def _save(model, path: Path) -> None:
    write_bytes(path, model.SerializeToString())


@contextlib.contextmanager
def _quiet():
    """The exporters report on themselves; what a user must know is in the errors."""
    loggers = [logging.getLogger(name) for name in ('torch.onnx', 'torch.export', 'onnxscript')]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')
            yield
    finally:
        for logger, level in zip(loggers, levels):
            logger.setLevel(level)
