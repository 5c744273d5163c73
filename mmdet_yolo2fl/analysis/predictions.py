"""Predictions on a whole data set: made once, kept in a file, read without running it."""

import codecs
import hashlib
import io
import json
import pickle
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from mmengine.config import Config
from torch import nn
from torch.utils.data import DataLoader

from ..checkpoints import numpy_builders
from ..whole_files import write_bytes


class Predictions(NamedTuple):
    """All boxes that a detector has found in a data set.

    Attributes:
        images (np.ndarray): ``(N,)`` int64, the position of the image in the data set.
        labels (np.ndarray): ``(N,)`` int64, 0..C-1.
        scores (np.ndarray): ``(N,)`` float64, in 0..1.
        boxes (np.ndarray): ``(N, 4)`` float64, corners in pixels of the original.
    """

    images: np.ndarray
    labels: np.ndarray
    scores: np.ndarray
    boxes: np.ndarray


def predict(model: nn.Module, loader: DataLoader) -> Iterator[list[dict]]:
    """Predict batch by batch.

    Args:
        model (nn.Module): A detector of MMDetection in evaluation mode.
        loader (DataLoader): Of a test or validation set.

    Yields:
        list[dict]: For each image of the batch what ``tools/test.py --out`` keeps of it:
        ``img_id``, ``img_path``, ``ori_shape``, and ``pred_instances`` with ``bboxes``, ``scores``
        and ``labels``, tensors on the CPU.
    """
    for batch in loader:
        with torch.no_grad():
            samples = model.test_step(batch)
        yield [_plain(sample) for sample in samples]


def _plain(sample) -> dict:
    found = sample.pred_instances
    boxes = getattr(found.bboxes, 'tensor', found.bboxes)
    instances = dict(bboxes=boxes, scores=found.scores, labels=found.labels)
    meta = {key: sample.get(key) for key in ('img_id', 'img_path', 'ori_shape')}
    return meta | dict(pred_instances={key: value.cpu() for key, value in instances.items()})


def fingerprint(config: Config, checkpoint: Path, split: str, images: Sequence = ()) -> str:
    """Twelve letters that change with the checkpoint, the model or the data of a split.

    Args:
        config (Config): Of the detector.
        checkpoint (Path): Its weights.
        split (str): 'val' or 'test'.
        images (Sequence): Of the data set, in its order: pairs of ``img_id`` and file. Of files
            that are here, their size and the time of their last change count.
    """
    parts = [config.model.to_dict(), config[f'{split}_dataloader'].to_dict()]
    parts[1].pop('num_workers', None)
    for image_id, path in images:
        state = Path(path).stat() if Path(path).is_file() else None
        parts.append([image_id, path, state and (state.st_size, state.st_mtime_ns)])
    digest = hashlib.sha256(checkpoint.read_bytes())
    digest.update(json.dumps(parts, sort_keys=True, default=str).encode())
    return digest.hexdigest()[:12]


def save_predictions(predictions: Sequence[dict], path: Path) -> None:
    """Write a pickle such as ``tools/test.py --out`` does, whole or not at all."""
    write_bytes(path, pickle.dumps(list(predictions)))


def read_predictions(path: Path) -> list[dict]:
    """Read what :func:`save_predictions` or ``tools/test.py --out`` has written.

    Only tensors, arrays and plain values are built; a pickle that asks for anything else is not
    run.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it holds anything else.
    """
    if not path.is_file():
        raise FileNotFoundError(f'predictions {path} do not exist')
    try:
        with open(path, 'rb') as file:
            content = _Unpickler(file).load()
    except Exception as error:  # in a damaged file the reader may stumble over anything
        raise ValueError(
            f'predictions {path}: not read ({type(error).__name__}: {error}). Expected is what '
            'tools/test.py --out has written'
        ) from error
    if not isinstance(content, list) or not all(
        isinstance(entry, dict)
        and isinstance(entry.get('pred_instances'), dict)
        and {'bboxes', 'scores', 'labels'} <= set(entry['pred_instances'])
        for entry in content
    ):
        raise ValueError(
            f'predictions {path}: not the list of tools/test.py --out: every entry must have '
            'pred_instances with bboxes, scores and labels'
        )
    return content


def _load_storage(data: bytes) -> torch.UntypedStorage:
    return torch.load(io.BytesIO(data), weights_only=True)


def _allowed() -> dict:
    """What tensors, arrays and bytes are built of, by the names that pickles use."""
    return {
        'numpy.ndarray': np.ndarray,
        'numpy.dtype': np.dtype,
        **numpy_builders(),
        'collections.OrderedDict': OrderedDict,
        '_codecs.encode': codecs.encode,
        'torch._utils._rebuild_tensor_v2': torch._utils._rebuild_tensor_v2,
        # PyTorch's own unpickles the bytes without looking.
        'torch.storage._load_from_bytes': _load_storage,
    }


class _Unpickler(pickle.Unpickler):
    """Builds tensors, arrays and plain values, nothing else."""

    def find_class(self, module: str, name: str):
        try:
            return _allowed()[f'{module}.{name}']
        except KeyError:
            raise pickle.UnpicklingError(
                f'it holds {module}.{name}, which could run code'
            ) from None


def flatten(predictions: Sequence[dict], ids: Sequence, num_classes: int) -> Predictions:
    """Check predictions against the data set that they are of, and line them up.

    Args:
        predictions (Sequence[dict]): Of :func:`predict`, one for each image.
        ids (Sequence): ``img_id`` of the images of the data set, in its order.
        num_classes (int): Of the data set.

    Raises:
        ValueError: If they are of other images or classes, or if a score or box is not finite.
    """
    if len(predictions) != len(ids):
        raise ValueError(
            f'there are predictions for {len(predictions)} images, but the data set has {len(ids)}'
        )
    tables = []
    for number, (entry, image_id) in enumerate(zip(predictions, ids)):
        if entry.get('img_id') not in (None, image_id):  # of some data sets there is none
            raise ValueError(
                f'the predictions are of other images: number {number} is of '
                f'{entry["img_id"]!r}, in the data set it is {image_id!r}'
            )
        found = entry['pred_instances']
        labels, scores, boxes = (
            np.asarray(found[key], float) for key in ('labels', 'scores', 'bboxes')
        )
        table = np.column_stack(
            [np.full(len(labels), number), labels, scores, boxes.reshape(-1, 4)]
        )
        if not np.isfinite(table).all():
            raise ValueError(f'image {image_id!r}: a predicted score or box is not finite')
        if len(labels) and not (labels.min() >= 0 and labels.max() < num_classes):
            raise ValueError(
                f'image {image_id!r}: a predicted label lies outside 0..{num_classes - 1}, the '
                'classes of the data set'
            )
        tables.append(table)
    table = np.concatenate(tables)
    return Predictions(
        table[:, 0].astype(np.int64), table[:, 1].astype(np.int64), table[:, 2], table[:, 3:]
    )
