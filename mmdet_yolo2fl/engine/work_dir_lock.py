"""One training in a work directory at a time."""

import errno
import json
import logging
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout
from mmengine.logging import print_log

# What the launchers tell each process of a job: torchrun, Slurm, Open MPI.
RANKS = ('RANK', 'SLURM_PROCID', 'OMPI_COMM_WORLD_RANK')
# A killed process may leave data loading workers, which notice it within five seconds.
ORPHANS_SECONDS = 30
# Some network file systems.
NO_LOCKS = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS)


@contextmanager
def work_dir_lock(work_dir: str | Path) -> Iterator[None]:
    """Keep other trainings out of a work directory, where two would overwrite each other's files.

    One lock for a job: of several processes the first takes it. It is the operating system's lock
    on ``train.lock``, so it ends with the process, however that ends: a lock that a killed run
    left is taken over. Meanwhile ``train.owner.json`` says who has it. Evaluation takes no lock,
    and a directory whose run has ended may be used again.

    Args:
        work_dir (str | Path): It is made if it is missing.

    Raises:
        BlockingIOError: If another training is at work there; names the process and the host.
        OSError: If the directory cannot be written.
    """
    if next((os.environ[name] for name in RANKS if name in os.environ), '0') != '0':
        yield
        return
    folder = Path(work_dir)
    folder.mkdir(parents=True, exist_ok=True)
    lock, owner = FileLock(folder / 'train.lock'), folder / 'train.owner.json'
    try:
        lock.acquire(timeout=0)
    except Timeout:
        holder = _read_owner(owner)
        try:
            lock.acquire(timeout=0 if _is_alive(holder) else ORPHANS_SECONDS)
        except Timeout:
            raise BlockingIOError(
                f'{folder}: another training is at work there (process {holder.get("pid", "?")} '
                f'on {holder.get("host", "an unknown host")}, since '
                f'{holder.get("since", "an unknown time")}). Wait for its end, end it, or choose '
                f'another --work-dir; if there is none, delete {folder / "train.lock"}'
            ) from None
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
        print_log(
            f'{folder}: its file system has no locks ({error.strerror}): see to it yourself that '
            'no two trainings write there',
            logger='current',
            level=logging.WARNING,
        )
    try:
        since = time.strftime('%Y-%m-%d %H:%M:%S')
        content = dict(pid=os.getpid(), host=socket.gethostname(), since=since)
        owner.write_text(json.dumps(content), encoding='utf-8')
        yield
    finally:
        owner.unlink(missing_ok=True)
        lock.release()


def _read_owner(path: Path) -> dict:
    """Who holds the lock, as far as it can be read; the lock itself does not depend on it."""
    try:
        content = json.loads(path.read_text(encoding='utf-8'))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _is_alive(holder: dict) -> bool:
    """Whether the process is there; yes, if nobody can tell."""
    pid = holder.get('pid')
    if holder.get('host') != socket.gethostname() or not isinstance(pid, int):
        return True
    if os.name != 'posix':  # there os.kill would end it
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True
