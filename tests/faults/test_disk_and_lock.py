"""Full disks, folders that cannot be written, and two trainings in one work directory."""

import errno
import os
import resource
import signal
import subprocess
import time

import pytest

from mmdet_yolo2fl.engine import work_dir_lock
from mmdet_yolo2fl.study_tables import write_csv

from .jobs import digest, run, start, tool, unfinished

pytestmark = pytest.mark.skipif(not hasattr(os, 'fork'), reason='needs os.fork')


def mount(*args):
    try:
        subprocess.run(['mount', *args], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f'no file system can be mounted here: {error}')


@pytest.fixture
def disk(tmp_path):
    """A function that mounts a file system of some size, or remounts it read-only."""
    place = tmp_path / 'disk'
    place.mkdir()

    def make(size):
        mount('-t', 'tmpfs', '-o', f'size={size}', 'tmpfs', str(place))
        return place

    yield make
    subprocess.run(['umount', '-l', str(place)], capture_output=True)


def write_table(out):
    out.mkdir(exist_ok=True)
    about = dict(seed=0, minutes=1.0, images=1, parameters=1)
    results = [dict(about, row=f'row {n}', metrics=dict(AP50=0.5)) for n in range(400)]
    write_csv(out / 'table.csv', results)


def jobs_and_limits(jobs):
    """Jobs, and how large a file may be for them to fail in the middle, in bytes."""
    return dict(
        train=(lambda out: train_on(jobs, out, 1), 200_000),
        export=(lambda out: jobs.export(out), 200_000),
        darknet2mmdet=(jobs.darknet2mmdet, 200_000),
        mmdet2darknet=(jobs.mmdet2darknet, 200_000),
        darknet2coco=(jobs.darknet2coco, 4_000),
        draw=(jobs.draw, 2_000),
        predict=(jobs.predict, 1_500),
        table=(write_table, 1_000),
    )


NAMES = list(jobs_and_limits(type('Any', (), {'__getattr__': lambda *_: None})()))
# The file that the message must name.
NAMED = dict(
    train='epoch_', export='squares', darknet2mmdet='network.', mmdet2darknet='squares.',
    darknet2coco='train.json', draw='street scenes', predict='squares', table='table.csv',
)  # fmt: skip


def train_on(jobs, out, epochs):
    options = [f'train_cfg.max_epochs={epochs}', 'train_dataloader.num_workers=0']
    tool('train', jobs.training, '--work-dir', out, '--resume', '--cfg-options', *options)


def fails(job, log):
    """Run a job that must end with an error; what it said."""
    log.write_text('')
    _, status = os.waitpid(start(job, log), 0)
    assert os.waitstatus_to_exitcode(status) in (1, 2), log.read_text()[-2000:]
    return log.read_text()


@pytest.mark.parametrize('name', NAMES)
def test_a_write_that_fails(jobs, tmp_path, name):
    """As on a full disk or over a quota: first into an empty folder, then over good files."""
    job, limit = jobs_and_limits(jobs)[name]
    out, log = tmp_path / 'out', tmp_path / 'log.txt'

    def limited(folder):
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
        job(folder)

    said = fails(lambda: limited(out), log)
    assert 'File too large' in said and (NAMED[name] in said or str(out) in said), said[-2000:]
    assert not unfinished(out)
    complete = [path.name for path in out.rglob('*') if path.stat().st_size == limit]
    assert not complete, 'a file was cut off'

    if name in ('train', 'draw'):  # they do not repeat what is there
        return
    run(lambda: job(out), log)
    before = digest(out)
    fails(lambda: limited(out), log)
    assert digest(out) == before and not unfinished(out)


def test_a_full_disk_in_training(jobs, tmp_path, disk):
    """The last checkpoint that was whole stays, and with some room the run goes on from it."""
    place, log = disk('24m'), tmp_path / 'log.txt'
    out = place / 'run'
    run(lambda: train_on(jobs, out, 1), log)
    before = digest(out)['epoch_1.pth']
    filler = place / 'filler'
    with open(filler, 'wb') as file:
        free = os.statvfs(place).f_bavail * os.statvfs(place).f_frsize
        file.write(bytes(free - 400_000))
    said = fails(lambda: train_on(jobs, out, 2), log)
    assert 'No space left on device' in said and 'epoch_2.pth' in said
    assert digest(out)['epoch_1.pth'] == before and not unfinished(out)
    assert (out / 'last_checkpoint').read_text().endswith('epoch_1.pth')
    filler.unlink()
    run(lambda: train_on(jobs, out, 2), log)
    assert 'epoch_2.pth' in digest(out)


def test_a_read_only_folder(jobs, tmp_path, disk):
    place, log = disk('1m'), tmp_path / 'log.txt'
    mount('-o', 'remount,ro', str(place))
    for name, (job, _) in jobs_and_limits(jobs).items():
        said = fails(lambda job=job: job(place / 'out'), log)
        assert 'Read-only' in said and str(place) in said, (name, said[-1000:])


@pytest.mark.parametrize('name', NAMES)
def test_a_file_where_a_folder_should_be(jobs, tmp_path, name):
    """A folder that nobody can make, whatever the rights of the user."""
    job, _ = jobs_and_limits(jobs)[name]
    (tmp_path / 'file').write_text('')
    said = fails(lambda: job(tmp_path / 'file' / 'out'), tmp_path / 'log.txt')
    assert str(tmp_path / 'file') in said and ('irectory' in said or 'exists' in said)


def hold(folder):
    with work_dir_lock(folder):
        time.sleep(600)


@pytest.fixture
def holder(tmp_path):
    """A process that has the lock of a work directory, and the directory."""
    folder = tmp_path / 'work'
    pid = start(lambda: hold(folder), tmp_path / 'holder.txt')
    deadline = time.monotonic() + 60
    while not (folder / 'train.owner.json').exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    time.sleep(0.05)
    yield pid, folder
    for call in (lambda: os.kill(pid, signal.SIGKILL), lambda: os.waitpid(pid, 0)):
        try:
            call()
        except (ProcessLookupError, ChildProcessError):
            break


def test_two_trainings_in_one_work_directory(jobs, holder, tmp_path):
    pid, folder = holder
    said = fails(lambda: train_on(jobs, folder, 1), tmp_path / 'log.txt')
    assert f'another training is at work there (process {pid} on ' in said
    assert not list(folder.glob('*.pth'))
    # Elsewhere one may train, and here evaluate.
    with work_dir_lock(tmp_path / 'elsewhere'):
        pass


def test_a_stale_lock_is_taken_over(holder):
    pid, folder = holder
    with pytest.raises(BlockingIOError), work_dir_lock(folder):
        pass
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    assert (folder / 'train.owner.json').exists()  # what the killed one left
    for _ in range(2):  # and used again once it is free
        with work_dir_lock(folder):
            assert str(os.getpid()) in (folder / 'train.owner.json').read_text()
    assert not (folder / 'train.owner.json').exists()


@pytest.mark.parametrize('rank', ['RANK', 'SLURM_PROCID', 'OMPI_COMM_WORLD_RANK'])
def test_one_lock_for_the_processes_of_a_job(holder, monkeypatch, rank):
    _, folder = holder
    monkeypatch.setenv(rank, '1')
    with work_dir_lock(folder):
        pass
    monkeypatch.setenv(rank, '0')
    with pytest.raises(BlockingIOError), work_dir_lock(folder):
        pass


@pytest.mark.skipif(os.name != 'posix', reason='its locks are of POSIX')
@pytest.mark.parametrize('number', [errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS])
def test_a_file_system_without_locks(tmp_path, monkeypatch, number):
    """NFS without its lock daemon, Lustre: a training must be possible there."""
    import fcntl

    def refuse(*_):
        raise OSError(number, os.strerror(number))

    said = []
    monkeypatch.setattr(fcntl, 'flock', refuse)
    # The function's module, which has its name.
    monkeypatch.setitem(
        work_dir_lock.__wrapped__.__globals__, 'print_log', lambda text, **_: said.append(text)
    )
    for _ in range(2):
        with work_dir_lock(tmp_path / 'run'):
            pass
    # For the last filelock has a way of its own.
    assert len(said) == 2 or (number == errno.ENOSYS and not said)
    assert all(f'{tmp_path / "run"}: its file system has no locks' in text for text in said)
