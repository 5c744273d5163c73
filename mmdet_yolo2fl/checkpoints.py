"""Checkpoints are pickles, and a pickle may run anything: they are looked through before use."""

import locale
import logging
import math
import os
import pickle
import re
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from urllib.parse import urlparse

import numpy as np
import torch
from mmengine import print_log
from mmengine.logging import HistoryBuffer
from mmengine.optim.scheduler.param_scheduler import OneCycleParamScheduler
from mmengine.utils import digit_version


class DamagedCheckpointError(ValueError):
    """A checkpoint that cannot be read, as a full disk or a broken copy leaves it."""


def _known_method(owner: type, name: str):
    """What ``getattr`` is needed for in a checkpoint: ``HistoryBuffer``'s statistics, and by what
    ``OneCycleLR`` goes from one rate to another."""
    is_statistic = owner is HistoryBuffer and not name.startswith('_')
    is_annealing = owner is OneCycleParamScheduler and name.startswith('_annealing_')
    if not is_statistic and not is_annealing:
        raise pickle.UnpicklingError(f'Unsupported global: GLOBAL getattr({owner!r}, {name!r})')
    return getattr(owner, name)


def numpy_builders() -> dict[str, Callable]:
    """What builds NumPy's arrays and scalars, by the names that pickles use."""
    multiarray = (getattr(np, '_core', None) or np.core).multiarray
    # NumPy 2 has renamed its core; a file may come from either.
    return {
        f'numpy.{core}.multiarray.{name}': getattr(multiarray, name)
        for core in ('core', '_core')
        for name in ('_reconstruct', 'scalar')
    }


def _safe_globals() -> list[tuple]:
    """What MMEngine's own checkpoints contain besides tensors, with the names they go by."""
    classes = [HistoryBuffer, OneCycleParamScheduler, np.ndarray, np.dtype, slice]
    classes += [type(np.dtype(name)) for name in ('float32', 'float64', 'int32', 'int64')]
    return [
        (_known_method, '__builtin__.getattr'),
        (_known_method, 'builtins.getattr'),
        *((function, name) for name, function in numpy_builders().items()),
        *((cls, f'{cls.__module__}.{cls.__qualname__}') for cls in classes),
    ]


def load_only_weights() -> None:
    """Let ``torch.load`` of this process refuse every checkpoint that could run code.

    It covers what :func:`verify_checkpoint` does not see, such as the pretrained weights of a
    backbone's ``init_cfg``: where MMEngine would unpickle a file that it could not load safely,
    PyTorch stops it (``TORCH_FORCE_WEIGHTS_ONLY_LOAD``). Whoever wants PyTorch's opposite,
    ``TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD=1``, has set it and keeps it.
    """
    if _can_verify() and 'TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD' not in os.environ:
        torch.serialization.add_safe_globals(_safe_globals())
        os.environ['TORCH_FORCE_WEIGHTS_ONLY_LOAD'] = '1'


def verify_checkpoint(path: str | Path) -> Path:
    """Look through a checkpoint before anything unpickles it.

    It must consist of tensors, plain Python values and what MMEngine's runner adds to them (the
    logged numbers). Nothing of it is run. PyTorch older than 2.6 cannot tell: there a warning
    says so.

    Args:
        path (str | Path): A file, or an ``http(s)://`` address, which is downloaded to the folder
            where MMEngine too looks for its downloads.

    Returns:
        Path: The file that was verified: load this one.

    Raises:
        FileNotFoundError: If there is no such file.
        DamagedCheckpointError: If it is damaged, or no checkpoint.
        ValueError: If it contains anything else, or weights that are NaN or infinite.
    """
    return _verified(path)[0]


def _check_archive(path: Path) -> None:
    """At least that a file of PyTorch 1.6 or later is whole, by its checksums.

    Raises:
        DamagedCheckpointError: If it is not.
    """
    with open(path, 'rb') as file:
        if file.read(4) != b'PK\x03\x04':
            return
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
    except (zipfile.BadZipFile, OSError, EOFError, ValueError) as error:
        damaged = type(error).__name__
    if damaged:
        raise DamagedCheckpointError(
            f'checkpoint {path}: damaged (cut short in a copy or a download?): {damaged}'
        )


def _verified(path: str | Path) -> tuple[Path, dict | None]:
    """The local file, and what it holds; None where PyTorch cannot look through it."""
    path = _local_file(path)
    if path.is_dir():
        raise ValueError(
            f'checkpoint {path}: is a folder; name a file in it. The shares that FSDP and '
            'DeepSpeed write cannot be looked through: let FSDPStrategy write one file, by '
            "state_dict_cfg='full'"
        )
    if not path.is_file():
        raise FileNotFoundError(f'checkpoint {path} does not exist')
    if not _can_verify():
        print_log(
            f'PyTorch {torch.__version__} cannot look through {path} before it unpickles it '
            '(2.6 and later can). Load only checkpoints whose maker you trust.',
            logger='current',
            level=logging.WARNING,
        )
        _check_archive(path)
        return path, None
    try:
        with open(path, 'rb') as file:
            # How PyTorch's files begin since 1.6; only those can be mapped instead of read.
            mmap = file.read(4) == b'PK\x03\x04'
        # Not as a context, which would take away what `load_only_weights` has allowed.
        torch.serialization.add_safe_globals(_safe_globals())
        content = torch.load(str(path), map_location='cpu', weights_only=True, mmap=mmap)
    except pickle.UnpicklingError as error:
        refused = re.search(r'GLOBAL (getattr\(.*?\)|\S+)', str(error))
        if not refused:
            raise DamagedCheckpointError(
                f'checkpoint {path}: not loaded. It is damaged, or no checkpoint of PyTorch, or '
                'holds a pickle that could run code'
            ) from error
        raise ValueError(
            f'checkpoint {path}: made by untrusted pickle, not loaded. It holds {refused[1]}, '
            'which could run code. If you trust its maker, ask for a file with the state_dict alone'
        ) from error
    except Exception as error:  # in a damaged file the reader may stumble over anything
        raise DamagedCheckpointError(
            f'checkpoint {path}: damaged (cut short in a copy or a download?), or no checkpoint of '
            f'PyTorch ({type(error).__name__})'
        ) from error
    if not isinstance(content, dict):
        raise ValueError(f'checkpoint {path}: holds a {type(content).__name__}, not a dict')
    _check_weights(content.get('state_dict', content), path)
    return path, content


def _check_weights(state, path: Path) -> None:
    if not isinstance(state, Mapping):
        raise ValueError(
            f'checkpoint {path}: its state_dict is a {type(state).__name__}, not a dict of weights'
        )
    for name, value in state.items():
        if isinstance(value, torch.Tensor) and not value.isfinite().all():
            raise ValueError(
                f'checkpoint {path}: {name} holds NaN or infinite values; nothing that it predicts '
                'would be of use. Take an earlier checkpoint'
            )


def verify_resumable(path: str | Path) -> Path:
    """Look through a checkpoint from which a training is to go on.

    When MMEngine resumes, it runs what it finds in ``meta['config']`` as a config, hence as a
    program. It writes no such key itself (it calls it ``cfg``, which nothing runs).

    Returns:
        Path: As :func:`verify_checkpoint`, which is part of it.

    Raises:
        FileNotFoundError, DamagedCheckpointError: As of :func:`verify_checkpoint`.
        ValueError: Also if it holds such a program, or lacks the state of a training.
    """
    path, content = _verified(path)
    if content is None:
        return path
    meta = content.get('meta')
    if isinstance(meta, Mapping) and 'config' in meta:
        raise ValueError(
            f"checkpoint {path}: its meta['config'] would be run as a program when it is resumed, "
            'not loaded. To start from its weights: --cfg-options load_from=FILE'
        )
    # A runner's own name for it, and that of the strategies of another.
    has_optimizer = {'optimizer', 'optim_wrapper'} & {*content}
    if 'param_schedulers' in content and not has_optimizer:
        raise ValueError(
            f'checkpoint {path}: saved with save_optimizer=False, so that no training can go on '
            'from it. To start from its weights: --cfg-options load_from=FILE'
        )
    if not isinstance(meta, Mapping) or 'message_hub' not in content or not has_optimizer:
        raise ValueError(
            f'checkpoint {path}: has weights, but no state of a training (meta, message_hub, '
            'optimizer) to resume, as best_*.pth: name an epoch_N.pth or iter_N.pth. To start '
            'from its weights: --cfg-options load_from=FILE'
        )
    for key in ('epoch', 'iter'):
        if not isinstance(meta.get(key), int):
            raise ValueError(
                f'checkpoint {path}: its meta[{key!r}] is {meta.get(key)!r}, no number'
            )
    return path


def load_verified(path: str | Path) -> dict:
    """What a file holds that :func:`verify_checkpoint` has returned, its tensors on the CPU.

    PyTorch older than 2.6 could not load a training's checkpoint safely; it has been warned of.
    """
    return torch.load(path, map_location='cpu', weights_only=_can_verify())


def restore_seen(checkpoint: dict) -> None:
    """Let a checkpoint say of ``YOLOV2Head.seen`` how many images there were.

    An average of the weights keeps the first number; the current one stands beside the average.

    Args:
        checkpoint (dict): As loaded; its ``state_dict`` is changed.
    """
    state = checkpoint.get('state_dict') or {}
    current = (checkpoint.get('ema_state_dict') or {}).get('module.bbox_head.seen')
    if current is not None and 'bbox_head.seen' in state:
        state['bbox_head.seen'] = torch.maximum(state['bbox_head.seen'], current)


def read_pointer(path: Path) -> str:
    """The checkpoint that ``last_checkpoint`` names, whoever wrote it."""
    content = path.read_bytes()
    try:
        return content.decode().strip()
    except UnicodeDecodeError:
        return content.decode(locale.getpreferredencoding(False), errors='replace').strip()


def latest_whole_checkpoint(work_dir: str | Path) -> Path | None:
    """The checkpoint from which a run in a work directory goes on.

    That is the one of ``last_checkpoint``, as in MMEngine; if it is damaged or gone, the newest
    whole one before it, and a warning says so. One that could run code is never passed over.

    Returns:
        Path | None: The verified file; None if the directory has no ``last_checkpoint``.

    Raises:
        ValueError: If none is whole, or the last one is unsafe.
    """
    pointer = Path(work_dir, 'last_checkpoint')
    if not pointer.is_file():
        return None
    named = read_pointer(pointer)
    if '://' in named:
        return verify_resumable(named)
    problems = []
    for path in _candidates(Path(work_dir), named):
        try:
            verify_resumable(path)
        except (FileNotFoundError, DamagedCheckpointError) as error:
            problems.append(str(error))
            continue
        if problems:
            print_log(
                f'{"; ".join(problems)}. Goes on from the one before: {path}',
                logger='current',
                level=logging.WARNING,
            )
        return path
    raise ValueError(
        f'{work_dir}: no checkpoint to resume is whole: {"; ".join(problems) or named!r}. To start '
        f'anew, delete {pointer}'
    )


def _candidates(work_dir: Path, named: str) -> Iterator[Path]:
    """The last checkpoint, then those before it, newest first."""
    last = Path(named)
    if not last.is_file():  # the directory may have been moved
        # Of an empty name, too, one looks in this directory.
        last = work_dir / (last.name or 'last_checkpoint')
    numbered = re.fullmatch(r'(.*?)(\d+)(\.\w+)', last.name)
    # Without one the file that names the last one is damaged itself.
    prefix, number, suffix = r'(?:epoch|iter)_', math.inf, '.pth'
    if numbered or last.is_file():
        yield last
    if numbered:
        prefix, number, suffix = re.escape(numbered[1]), int(numbered[2]), numbered[3]
    older = []
    for path in last.parent.glob('*' + suffix):
        other = re.fullmatch(prefix + r'(\d+)' + re.escape(suffix), path.name)
        if other and int(other[1]) < number:
            older.append((int(other[1]), path))
    yield from (path for _, path in sorted(older, reverse=True))


def verify_initial_checkpoints(config: Mapping) -> None:
    """Look through the local files that ``init_cfg`` of a model starts from.

    MMEngine loads them while the weights are initialized, deep inside the run. Addresses are left
    to :func:`load_only_weights`, which stops what could run code.

    Raises:
        FileNotFoundError, ValueError: As of :func:`verify_checkpoint`.
    """
    checkpoint = config.get('checkpoint')
    if config.get('type') == 'Pretrained' and checkpoint and '://' not in str(checkpoint):
        verify_checkpoint(checkpoint)
    for value in config.values():
        for part in value if isinstance(value, (list, tuple)) else [value]:
            if isinstance(part, Mapping):
                verify_initial_checkpoints(part)


def _can_verify() -> bool:
    return digit_version(torch.__version__) >= digit_version('2.6.0')


def download_name(address: str) -> str:
    """By which MMEngine, too, keeps a download."""
    return Path(urlparse(address).path).name


def _local_file(path: str | Path) -> Path:
    """The path itself, or that of the download from an address."""
    if '://' not in str(path):
        return Path(path).expanduser()
    address = urlparse(str(path))
    if address.scheme not in ('http', 'https'):
        raise ValueError(
            f'checkpoint {path}: an address with {address.scheme}:// cannot be verified. Download '
            'the file and give its path'
        )
    local = Path(torch.hub.get_dir(), 'checkpoints', download_name(str(path)))
    if not local.exists():
        local.parent.mkdir(parents=True, exist_ok=True)
        try:
            # Writes under another name, then renames.
            torch.hub.download_url_to_file(str(path), str(local))
        except OSError as error:
            raise ValueError(f'checkpoint {path}: cannot be downloaded ({error})') from error
    return local
