"""Darknet's ``.weights`` files, and how their numbers lie in a network's convolutions."""

import struct
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from mmcv.cnn import ConvModule
from mmengine.utils.dl_utils.parrots_wrapper import _BatchNorm
from torch import Tensor, nn

# Darknet adds it to the variance on GPUs, and in AlexeyAB's fork everywhere.
EPSILON = 1e-5


class Header(NamedTuple):
    """What a weights file begins with (Darknet's ``load_weights_upto``).

    Attributes:
        major, minor, revision (int): The version of the format, 0.2.0 in all that is new.
        seen (int): Images that training has seen.
    """

    major: int = 0
    minor: int = 2
    revision: int = 0
    seen: int = 0

    @property
    def wide(self) -> bool:
        """Whether ``seen`` has 64 bits. From version 0.2 on; larger ones are flags."""
        return self.major * 10 + self.minor >= 2 and self.major < 1000 and self.minor < 1000

    def __bytes__(self) -> bytes:
        """The header as it stands in the file."""
        return struct.pack('<iii' + ('q' if self.wide else 'i'), *self)


def read_weights(path: str | Path) -> tuple[Header, np.ndarray]:
    """The header and all numbers of a weights file.

    Returns:
        tuple[Header, np.ndarray]: The array is float32, mapped from the file, not read yet.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it cannot be a weights file.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise FileNotFoundError(
            f'{path}: there is no such weights file; docs/darknet.md has the addresses'
        )
    size = path.stat().st_size
    with open(path, 'rb') as file:
        start = file.read(20)
    if len(start) < 16:
        raise ValueError(f'{path}: {size} bytes are too short for the header of a weights file')
    header = Header(*struct.unpack('<iii', start[:12]))
    length = 20 if header.wide else 16
    if min(header[:3]) < 0 or len(start) < length:
        raise ValueError(f'{path}: no weights file of Darknet: its version reads {header[:3]}')
    header = header._replace(seen=struct.unpack('<q' if header.wide else '<i', start[12:length])[0])
    if header.seen < 0:
        raise ValueError(f'{path}: no weights file of Darknet: it has seen {header.seen} images')
    if (size - length) % 4:
        raise ValueError(
            f'{path}: {size} bytes are a header of {length} and {(size - length) / 4} numbers of 4 '
            'bytes: the file is cut off, or no weights file'
        )
    if size == length:
        raise ValueError(f'{path}: a header, and no weights behind it')
    return header, np.memmap(path, dtype='<f4', mode='r', offset=length)


class Convolution(NamedTuple):
    """A convolution of a network with what belongs to it.

    Attributes:
        name (str): In the network.
        conv (nn.Conv2d): Plain, without groups or dilation; with a bias where it has no ``norm``.
        norm (nn.Module | None): Its batch normalization, if it has one.
    """

    name: str
    conv: nn.Conv2d
    norm: nn.Module | None

    @property
    def parts(self) -> list[Tensor]:
        """Its tensors in Darknet's order."""
        if self.norm is None:
            return [self.conv.bias, self.conv.weight]
        norm = self.norm
        return [norm.bias, norm.weight, norm.running_mean, norm.running_var, self.conv.weight]

    @property
    def size(self) -> int:
        """How many numbers these are."""
        return sum(part.numel() for part in self.parts)


def convolutions(module: nn.Module) -> list[Convolution]:
    """The convolutions of a network, in the order in which they are built: Darknet's order.

    Raises:
        ValueError: If a layer has no place in a Darknet file.
    """
    found, inside = [], set()
    for name, child in module.named_modules():
        if isinstance(child, ConvModule):
            inside.update(map(id, child.modules()))
            found.append(Convolution(name, child.conv, child.norm if child.with_norm else None))
        elif isinstance(child, nn.Conv2d) and id(child) not in inside:
            found.append(Convolution(name, child, None))
        elif id(child) not in inside and any(True for _ in child.parameters(recurse=False)):
            raise ValueError(f'{name} ({type(child).__name__}) has no place in a Darknet network')
    for name, conv, norm in found:
        plain = type(conv) is nn.Conv2d and conv.groups == 1 and conv.dilation == (1, 1)
        if not plain or not (norm is None or isinstance(norm, _BatchNorm)):
            raise ValueError(
                f'{name}: Darknet networks consist of plain convolutions with batch normalization '
                f'or none, got {type(conv).__name__} (groups {conv.groups}) and '
                f'{type(norm).__name__}'
            )
        if norm is None and conv.bias is None:
            raise ValueError(f'{name}: a convolution without batch normalization needs a bias')
    return found


@torch.no_grad()
def load_convolution(target: Convolution, values: np.ndarray, where: str) -> None:
    """Fill one convolution with the numbers of a file.

    Args:
        target (Convolution): What to fill.
        values (np.ndarray): ``(target.size,)`` float32.
        where (str): Names the file and the place in messages.

    Raises:
        ValueError: If a number is not finite, or a variance negative: then the file belongs to
            another network.
    """
    if not np.isfinite(values).all():
        raise ValueError(f'{where}: holds numbers that are not finite')
    start = 0
    for part in target.parts:
        chunk = torch.from_numpy(np.array(values[start : start + part.numel()]))
        if target.norm is not None and part is target.norm.running_var and (chunk < 0).any():
            raise ValueError(
                f'{where}: a negative variance ({chunk.min():.3g}): the file belongs to another '
                'network, or is damaged'
            )
        part.copy_(chunk.view_as(part))
        start += part.numel()


def convolution_bytes(
    source: Convolution, epsilon: float = EPSILON, order: Tensor | None = None
) -> bytes:
    """The numbers of one convolution as they stand in a weights file.

    Args:
        source (Convolution): Its batch normalization may add another epsilon to the variance
            than the reader does: the difference goes into the variance.
        epsilon (float): What the reader adds: 1e-5 for Darknet, 1e-6 for OpenCV.
        order (Tensor, optional): Which input channel stands at each place of the reader's input.

    Raises:
        ValueError: If that difference makes a variance negative.
    """
    parts = [part.detach().cpu().float() for part in source.parts]
    if source.norm is not None and source.norm.eps != epsilon:
        parts[3] = (parts[3].double() + source.norm.eps - epsilon).float()
        if (parts[3] < 0).any():
            raise ValueError(
                f'{source.name}: its batch normalization has epsilon {source.norm.eps}, the reader '
                f'{epsilon}, and a variance is too small to make up for it'
            )
    if order is not None:
        parts[-1] = parts[-1][:, order]
    if not all(part.isfinite().all() for part in parts):
        raise ValueError(f'{source.name}: holds numbers that are not finite')
    return b''.join(part.contiguous().numpy().astype('<f4').tobytes() for part in parts)
