"""Checkpoints are pickles, and a pickle may run anything: they are looked through before use."""

import logging
import os
import pickle
import re
from pathlib import Path
from urllib.parse import urlparse

import numpy as np
import torch
from mmengine import print_log
from mmengine.logging import HistoryBuffer
from mmengine.utils import digit_version


def _history_buffer_method(owner: type, name: str):
    """What ``getattr`` is needed for in a checkpoint: ``HistoryBuffer``'s statistics."""
    if owner is not HistoryBuffer or name.startswith('_'):
        raise pickle.UnpicklingError(f'Unsupported global: GLOBAL getattr({owner!r}, {name!r})')
    return getattr(owner, name)


def _safe_globals() -> list[tuple]:
    """What MMEngine's own checkpoints contain besides tensors, with the names they go by."""
    # NumPy 2 has renamed its core; a checkpoint may come from either.
    multiarray = getattr(np, '_core', None) or np.core
    functions = [
        (getattr(multiarray.multiarray, name), f'numpy.{core}.multiarray.{name}')
        for core in ('core', '_core')
        for name in ('_reconstruct', 'scalar')
    ]
    classes = [HistoryBuffer, np.ndarray, np.dtype, slice]
    classes += [type(np.dtype(name)) for name in ('float32', 'float64', 'int32', 'int64')]
    return [
        (_history_buffer_method, '__builtin__.getattr'),
        (_history_buffer_method, 'builtins.getattr'),
        *functions,
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
        ValueError: If it contains anything else, is damaged, or is no checkpoint.
    """
    path = _local_file(path)
    if not path.is_file():
        raise FileNotFoundError(f'checkpoint {path} does not exist')
    if not _can_verify():
        print_log(
            f'PyTorch {torch.__version__} cannot look through {path} before it unpickles it '
            '(2.6 and later can). Load only checkpoints whose maker you trust.',
            logger='current',
            level=logging.WARNING,
        )
        return path
    try:
        with open(path, 'rb') as file:
            mmap = file.read(4) == b'PK\x03\x04'
        # Not as a context, which would take away what `load_only_weights` has allowed.
        torch.serialization.add_safe_globals(_safe_globals())
        content = torch.load(str(path), map_location='cpu', weights_only=True, mmap=mmap)
    except pickle.UnpicklingError as error:
        refused = re.search(r'GLOBAL (getattr\(.*?\)|\S+)', str(error))
        if not refused:
            raise ValueError(
                f'checkpoint {path}: not loaded. It is damaged, or no checkpoint of PyTorch, or '
                'holds a pickle that could run code'
            ) from error
        raise ValueError(
            f'checkpoint {path}: made by untrusted pickle, not loaded. It holds {refused[1]}, '
            'which could run code. If you trust its maker, ask for a file with the state_dict alone'
        ) from error
    except Exception as error:  # in a damaged file the reader may stumble over anything
        raise ValueError(
            f'checkpoint {path}: damaged (cut short in a copy or a download?), or no checkpoint of '
            f'PyTorch ({type(error).__name__})'
        ) from error
    if not isinstance(content, dict):
        raise ValueError(f'checkpoint {path}: holds a {type(content).__name__}, not a dict')
    return path


def _can_verify() -> bool:
    return digit_version(torch.__version__) >= digit_version('2.6.0')


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
    local = Path(torch.hub.get_dir(), 'checkpoints', Path(address.path).name)
    if not local.exists():
        local.parent.mkdir(parents=True, exist_ok=True)
        try:
            # Writes under another name, then renames.
            torch.hub.download_url_to_file(str(path), str(local))
        except OSError as error:
            raise ValueError(f'checkpoint {path}: cannot be downloaded ({error})') from error
    return local
