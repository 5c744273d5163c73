"""Time and memory of functions, side by side."""

import platform
import time
from collections.abc import Callable, Hashable, Sequence
from contextlib import nullcontext
from pathlib import Path

import torch
from mmengine.device import utils as device_utils
from mmengine.utils import track_iter_progress
from torch.profiler import ProfilerActivity, profile


def synchronize(device: str) -> None:
    """Wait for a GPU."""
    if 'cuda' in str(device):
        torch.cuda.synchronize()


def names_of(configs: Sequence[Path], checkpoints: Sequence[str] | None) -> list[str]:
    """The file names; where they are the same, the paths, and where these are, the checkpoints'."""
    paths = [str(path) for path in configs]
    with_checkpoints = [
        f'{path}, {Path(checkpoint).stem}' for path, checkpoint in zip(paths, checkpoints or paths)
    ]
    numbered = [f'{name} ({number})' for number, name in enumerate(with_checkpoints, 1)]
    for names in ([path.stem for path in configs], paths, with_checkpoints):
        if len(set(names)) == len(names):
            return names
    return numbered


def use(device: str) -> None:
    """Make a GPU the one that is waited for, and whose memory is measured.

    MMEngine's mixed precision is that of this device too, also on the CPU beside a GPU.
    """
    device = torch.device(device)
    device_utils.DEVICE = device.type
    if device.index is not None:  # 'cuda' is the current one already
        torch.cuda.set_device(device)


def clock(device: str, function: Callable, *args) -> float:
    """Milliseconds of one call."""
    synchronize(device)
    start = time.perf_counter()
    function(*args)
    synchronize(device)
    return 1000 * (time.perf_counter() - start)


def mark(device: str) -> torch.cuda.Event | float:
    """A point in time, for :func:`between`; of a GPU in its own queue, without waiting."""
    if 'cuda' not in str(device):
        return time.perf_counter()
    event = torch.cuda.Event(enable_timing=True)
    event.record()
    return event


def between(start: torch.cuda.Event | float, end: torch.cuda.Event | float) -> float:
    """Between two marks; a GPU must have passed both."""
    return 1000 * (end - start) if isinstance(start, float) else start.elapsed_time(end)


def alternate(
    functions: dict[Hashable, Callable],
    device: str,
    repeat: int,
    warm_up: int = 2,
    guard: Callable = nullcontext,
) -> dict[Hashable, list[float]]:
    """Milliseconds of each function: ``repeat`` times in turn, after ``warm_up`` rounds.

    In turn, so that a busy machine slows all alike: read the ratios. Every call stands in a
    context ``guard(name)``; where that suppresses an error, the function is left out.
    """
    times = {name: [] for name in functions}
    for number in track_iter_progress(range(repeat + warm_up)):
        for name in list(times):
            milliseconds = None
            with guard(name):
                milliseconds = clock(device, functions[name])
            if milliseconds is None:
                del times[name]
            elif number >= warm_up:
                times[name].append(milliseconds)
    return times


def peak_memory(device: str, function: Callable, *args) -> int:
    """Bytes at the peak beyond what was there before."""
    if 'cuda' in str(device):
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        function(*args)
        return torch.cuda.max_memory_allocated() - before
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
        function(*args)
    now = largest = 0
    for event in recorded.profiler.kineto_results.events():
        if event.name() == '[memory]':
            now += event.nbytes()
            largest = max(largest, now)
    return largest


def machine(device: str) -> str:
    """Processor, with the instructions that PyTorch uses of it, threads and PyTorch, in words."""
    if 'cuda' in str(device):
        name = torch.cuda.get_device_name()
    else:
        capabilities = getattr(torch.cpu, 'get_capabilities', dict)()
        name = capabilities.get('cpu_name', platform.processor() or platform.machine())
        # By which the digits of a training differ.
        name += f', {torch.backends.cpu.get_cpu_capability()}'
    return f'{name}, {torch.get_num_threads()} threads, PyTorch {torch.__version__}'
