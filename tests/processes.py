"""Processes of their own, on a CPU, that share one import of the package: it takes seconds."""

import faulthandler
import multiprocessing
import os
from collections.abc import Callable
from multiprocessing import forkserver

import pytest

LIMIT = 300  # seconds


def context():
    """Forks of a process that has imported, and no state besides; elsewhere `spawn`."""
    if os.name != 'posix':
        return multiprocessing.get_context('spawn')
    chosen = multiprocessing.get_context('forkserver')
    chosen.set_forkserver_preload(['mmdet_yolo2fl'])
    with pytest.MonkeyPatch.context() as patch:
        # MMEngine looks for a GPU when it is imported, and PyTorch counts its threads.
        patch.setenv('CUDA_VISIBLE_DEVICES', '-1')
        patch.setenv('OMP_NUM_THREADS', '1')
        forkserver.ensure_running()
    return chosen


def run(job: Callable, *args) -> None:
    """``job``, and where all its threads stand in the test's output, should it not end."""
    faulthandler.dump_traceback_later(0.9 * LIMIT, file=2)
    job(*args)


def start(job: Callable, *args) -> multiprocessing.Process:
    # A daemon ends with the tests.
    process = context().Process(target=run, args=(job, *args), daemon=True)
    process.start()
    return process


def exit_codes(processes: list) -> list[int | None]:
    """When all have ended; None for one that has not within the limit."""
    for process in processes:
        process.join(LIMIT)
    return [process.exitcode for process in processes]
