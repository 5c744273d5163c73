"""Processes of their own that share one import of the package: it takes seconds."""

import multiprocessing
import os
from collections.abc import Callable


def context():
    """Forks of a process that has imported, and no threads, no state; elsewhere `spawn`."""
    if os.name != 'posix':
        return multiprocessing.get_context('spawn')
    chosen = multiprocessing.get_context('forkserver')
    chosen.set_forkserver_preload(['mmdet_yolo2fl'])
    return chosen


def start(job: Callable, *args) -> multiprocessing.Process:
    process = context().Process(target=job, args=args)
    process.start()
    return process


def exit_codes(processes: list) -> list[int]:
    """When all have ended, of which each has two minutes."""
    for process in processes:
        process.join(120)
    return [process.exitcode for process in processes]
