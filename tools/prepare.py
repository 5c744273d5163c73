"""Prepares .venv in this checkout: PyTorch, MMCV with its compiled ops, MMDetection, the package.

Needs Python 3.10 or later, and a C++ compiler unless a wheel of MMCV is at hand. Does nothing
twice: a second run only looks whether everything still works, and repairs what does not.

Environment variables:
  TORCH       what to install as PyTorch, in pip's words: 'torch==2.13.0' (the default),
              'torch==2.11.0 --index-url https://download.pytorch.org/whl/cu128'; later runs
              keep to it until another is given (TORCH= for the default again)
  FORCE_CUDA  1: compile MMCV's ops for CUDA although no GPU is to be seen (needs nvcc)
  MAX_JOBS    how many compilers run at once, each in about 1 GB (default: one less than the cores,
              of up to four all; on macOS and Windows at most four)
"""

import argparse
import contextlib
import hashlib
import os
import platform
import shlex
import shutil
import subprocess
import sys
import sysconfig
import time
import urllib.request
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TORCH = 'torch==2.13.0'
CPU_INDEX = 'https://download.pytorch.org/whl/cpu'
# setuptools 81 lost pkg_resources, which mmcv's setup.py imports; the rest speeds up compiling.
BUILD_TOOLS = ['setuptools<81', 'wheel', 'ninja', 'psutil', 'numpy']
MMCV = 'onedl-mmcv==2.3.6'
# OpenCV 5 has lost the reader of Darknet's files.
OPENCV = ['opencv-python<5', 'opencv-python-headless<5']
MMDET = ['onedl-mmdetection==3.5.1', 'onedl-mmengine==0.10.12']
# A copy of python3 need not find its libpython; Windows wants rights for links.
LINKS = os.name != 'nt'
HEARTBEAT = 30  # seconds between two signs of life in a long step
# Runs an op rather than only importing it: a build without ops, or for another PyTorch, shows
# itself here. On a GPU the op must have been compiled for it.
PROBE = """
import torch
from mmcv.ops import nms
boxes = torch.tensor([[0., 0., 9., 9.], [0., 0., 9., 8.], [20., 20., 30., 30.]])
scores = torch.tensor([.9, .8, .7])
for device in ['cpu'] + ['cuda'] * torch.cuda.is_available():
    assert nms(boxes.to(device), scores.to(device), 0.5)[1].tolist() == [0, 2]
"""
if os.environ.get('FORCE_CUDA') == '1':  # there may be no GPU here to run them on
    PROBE += 'from mmcv.ops import get_compiling_cuda_version as version\n'
    PROBE += "assert version() != 'not available'\n"
# MMDetection and the package; its own check_environment() explains what it finds.
PROBE_ALL = PROBE + 'import mmdet, pytest, mmdet_yolo2fl\n'
# What PyTorch says of the GPU, and where it looks for the compiler.
PROBE_CUDA = """
import torch
from torch.utils.cpp_extension import CUDA_HOME
is_cuda = torch.cuda.is_available() and not torch.version.hip
for fact in is_cuda, torch.version.cuda or '', CUDA_HOME or '':
    print(fact)
"""


class PrepareError(Exception):
    """A step failed; the message says which, and what to do."""


class Environment:
    """A virtual environment and the log of what is done to it.

    Args:
        folder (Path): Of the virtual environment.
    """

    def __init__(self, folder):
        self.folder = folder
        binaries = 'Scripts' if os.name == 'nt' else 'bin'
        self.python = folder / binaries / ('python.exe' if os.name == 'nt' else 'python')
        self.log = folder / 'prepare.log'
        self.stamp = folder / 'prepare.stamp'
        self.chosen_torch = folder / 'prepare.torch'

    def run(self, what, *arguments):
        """Run the environment's Python, its output going to the log; say how long it takes.

        Raises:
            PrepareError: If it fails, with the end of its output.
        """
        start, said = time.monotonic(), 0
        print(f'- {what} ...', flush=True)
        with self.log.open('a', encoding='utf-8') as log:
            log.write(f'\n$ python {shlex.join(arguments)}\n')
            log.flush()
            offset = log.tell()
            process = subprocess.Popen(
                [str(self.python), *arguments],
                cwd=ROOT,
                env=compiler_settings() | os.environ,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
            while True:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(timeout=1)
                    break
                seconds = int(time.monotonic() - start)
                if seconds >= said + HEARTBEAT:
                    said = seconds
                    print(f'  ... {seconds // 60}:{seconds % 60:02} min', flush=True)
        seconds = time.monotonic() - start
        if process.returncode:
            with self.log.open('rb') as log:
                log.seek(offset)
                lines = log.read().decode('utf-8', 'replace').splitlines()
            raise PrepareError(
                '\n'.join(lines[-25:])
                + f'\n\n{what}: failed after {seconds:.0f} s. All of its output: {self.log}'
            )
        print(f'  done in {seconds:.0f} s', flush=True)

    def pip(self, what, *arguments):
        self.run(what, '-m', 'pip', 'install', *arguments)

    def ask(self, code):
        """The lines that ``code`` prints; none if it fails."""
        result = subprocess.run(
            [str(self.python), '-c', code], cwd=self.folder, capture_output=True, text=True
        )
        return result.stdout.splitlines()

    def works(self, code):
        """Whether the environment's Python runs ``code``; if not, the log tells why."""
        if not self.python.exists():
            return False
        # Not in the checkout: its folders must not shadow what is installed.
        result = subprocess.run(
            [str(self.python), '-c', code], cwd=self.folder, capture_output=True, text=True
        )
        if result.returncode:
            with self.log.open('a', encoding='utf-8') as log:
                log.write(f'\nprobe failed:\n{result.stderr}\n')
        return result.returncode == 0


def compiler_settings():
    """What MMCV's compilation needs and does not set by itself."""
    # Its own default is one less than the cores it may use, but never below four, which a small
    # machine has no memory for.
    try:
        cores = len(os.sched_getaffinity(0))
    except AttributeError:  # macOS, Windows
        cores = min(4, os.cpu_count() or 1)
    settings = dict(MAX_JOBS=str(min(cores, max(4, cores - 1))))
    if 'VSCMD_ARG_TGT_ARCH' in os.environ:  # a prompt of Visual Studio, which PyTorch asks for
        settings['DISTUTILS_USE_SDK'] = '1'
    return settings


def wanted(environment):
    """A digest of all that decides what is installed."""
    torch = torch_arguments(torch_wish(environment), look=False)
    parts = [platform.python_version(), platform.machine(), str(ROOT), *torch]
    parts += [MMCV, *BUILD_TOOLS, *OPENCV, *MMDET, (ROOT / 'pyproject.toml').read_text('utf-8')]
    return hashlib.sha256('\n'.join(parts).encode()).hexdigest()


def torch_wish(environment):
    """TORCH, or what it was when PyTorch was installed; empty for the default.

    Else ``TORCH=... make env`` would be undone by the next ``make test`` without it.
    """
    if 'TORCH' in os.environ:
        return os.environ['TORCH']
    chosen = environment.chosen_torch
    return chosen.read_text('utf-8') if chosen.is_file() else ''


def torch_arguments(wish, look=True):
    """What pip gets to install PyTorch.

    Plain pip takes gigabytes of CUDA libraries on Linux. Without an NVIDIA driver the CPU build
    is wanted, from PyTorch's own index if that can be reached; not where MMCV is to be compiled
    for CUDA all the same.
    """
    if wish:
        return shlex.split(wish)
    for_cpu = not shutil.which('nvidia-smi') and os.environ.get('FORCE_CUDA') != '1'
    if look and sys.platform == 'linux' and for_cpu:
        try:
            urllib.request.urlopen(f'{CPU_INDEX}/torch/', timeout=5).close()
        except OSError as error:
            print(f'  ({CPU_INDEX} is out of reach ({error}): pip decides alone)')
        else:
            return [TORCH, '--extra-index-url', CPU_INDEX]
    return [TORCH]


def create(environment):
    """Make the virtual environment, with pip in it.

    Raises:
        PrepareError: If this Python can do neither by itself nor by its own pip.
    """
    print(f'- A virtual environment in {environment.folder}')
    try:
        venv.create(environment.folder, with_pip=True, clear=True, symlinks=LINKS)
        return
    except subprocess.CalledProcessError:
        # Debian keeps ensurepip in a package of its own; this Python's pip does as well.
        venv.create(environment.folder, clear=True, symlinks=LINKS)
    code = 'import sysconfig; print(sysconfig.get_path("purelib"))'
    packages = subprocess.check_output([str(environment.python), '-c', code], text=True).strip()
    pip = [sys.executable, '-m', 'pip', 'install', '--target', packages, 'pip']
    result = subprocess.run(pip, capture_output=True, text=True)
    if result.returncode:
        raise PrepareError(
            f'{result.stderr}\nThis Python has neither ensurepip nor a working pip. '
            'Debian, Ubuntu: sudo apt install python3-venv.'
        )


def has_wheel(environment):
    """Whether pip has kept a wheel of MMCV, or finds one where it has been told to look."""
    pip = [str(environment.python), '-m', 'pip']
    kept = subprocess.run([*pip, 'cache', 'list', 'onedl_mmcv'], capture_output=True, text=True)
    if '.whl' in kept.stdout:
        return True
    install = ['install', '--dry-run', '--ignore-installed', '--no-deps']
    install += ['--only-binary', ':all:', MMCV]
    return not subprocess.run([*pip, *install], capture_output=True).returncode


def check_cuda(environment):
    """Refuse early what would fail at the end, once PyTorch is there: a GPU without its compiler.

    Raises:
        PrepareError: If MMCV must be compiled for a GPU, and there is no nvcc of the major version
            of CUDA that PyTorch was built for.
    """
    is_seen, cuda, home, *_ = [*environment.ask(PROBE_CUDA), '', '', '']
    is_forced = os.environ.get('FORCE_CUDA') == '1'
    if is_seen == 'False' and cuda and shutil.which('nvidia-smi'):
        print(
            '  This PyTorch does not see the GPU, perhaps because its driver is too old for it:\n'
            '  everything will run on the CPU. Another build: TORCH="..." make env\n'
            '  (python3 tools/prepare.py --help).'
        )
    if is_seen != 'True' and not is_forced:
        return
    found = nvcc_version(home)
    if not cuda or found.split('.')[0] != cuda.split('.')[0]:
        build = f'for CUDA {cuda}' if cuda else 'without CUDA'
        raise PrepareError(
            f"MMCV's ops must be compiled for the GPU. This PyTorch was built {build}, and there "
            f'is {"nvcc of CUDA " + found if found else "no nvcc"}: both must be of the same major '
            "version. Install that version's CUDA toolkit (CUDA_HOME says where it lies), or take "
            'a PyTorch for the one that is there (TORCH, see python3 tools/prepare.py --help), '
            f'or leave the GPU aside: TORCH="{TORCH} --index-url {CPU_INDEX}" make env'
        )


def nvcc_version(home):
    """Of the compiler in CUDA_HOME, such as 12.8; empty without one."""
    nvcc = shutil.which('nvcc', path=str(Path(home, 'bin')))
    if nvcc is None:
        return ''
    text = subprocess.run([nvcc, '--version'], capture_output=True, text=True).stdout
    return text.partition('release ')[2].partition(',')[0]


def check_compiler(environment):
    """Refuse early what would fail after minutes.

    Raises:
        PrepareError: If there is no C++ compiler or no Python headers to compile MMCV.
    """
    compilers = [os.environ.get('CXX', ''), 'c++', 'g++', 'clang++', 'cl']
    headers = Path(sysconfig.get_path('include'), 'Python.h')
    missing = []
    # CXX may carry arguments, as in 'ccache g++'. On Windows PyTorch finds the compiler by itself.
    if os.name != 'nt' and not any(
        shutil.which(shlex.split(compiler)[0]) for compiler in compilers if compiler
    ):
        missing.append('a C++ compiler')
    if not headers.is_file():
        missing.append(f"Python's headers ({headers})")
    if missing:
        raise PrepareError(
            f"MMCV's ops must be compiled, and there is no sign of {' and of '.join(missing)}. "
            'Debian, Ubuntu: sudo apt install build-essential python3-dev. macOS: xcode-select '
            '--install. Windows: the Build Tools for Visual Studio.'
        )


def install_mmcv(environment):
    """Install MMCV and make sure that its ops run, in up to three attempts.

    Raises:
        PrepareError: If they do not run in the end.
    """
    mmcv = ['--no-build-isolation', MMCV]
    print(
        "  MMCV's ops are compiled now, unless pip has kept a wheel of them: 10 to 40 minutes on\n"
        '  two cores, once per machine.'
    )
    environment.pip('MMCV with its ops', *mmcv, *OPENCV)
    if environment.works(PROBE):
        return
    print("  The installed MMCV has no ops that run with this PyTorch. Trying pip's wheel.")
    environment.pip('MMCV again', '--force-reinstall', '--no-deps', *mmcv)
    if environment.works(PROBE):
        return
    print('  That wheel was built for another PyTorch, or without ops. Compiling a new one.')
    check_cuda(environment)
    # Only the removal makes pip keep the new wheel instead of finding the bad one again.
    subprocess.run(
        [str(environment.python), '-m', 'pip', 'cache', 'remove', 'onedl_mmcv'],
        capture_output=True,
    )
    environment.pip('MMCV, compiled anew', '--force-reinstall', '--no-deps', *mmcv)
    if not environment.works(PROBE):
        raise PrepareError(
            'MMCV was compiled, but its ops do not run. The end of the log says why: '
            f'{environment.log}. With a GPU, nvcc must be of the CUDA version that PyTorch was '
            'built for (python -c "import torch; print(torch.version.cuda)").'
        )


def prepare(environment):
    """Bring the environment to the wanted state. Every step may be repeated."""
    if not environment.works('import pip'):
        create(environment)
    environment.stamp.unlink(missing_ok=True)
    must_compile = not environment.works(PROBE) and not has_wheel(environment)
    if must_compile:
        check_compiler(environment)
    wish = torch_wish(environment)
    environment.pip('PyTorch (200 MB; for a GPU 2 to 3 GB)', *torch_arguments(wish))
    environment.chosen_torch.write_text(wish, 'utf-8')
    environment.pip('Build tools', *BUILD_TOOLS)
    if not environment.works(PROBE):
        if must_compile:
            check_cuda(environment)
        install_mmcv(environment)
    # mmengine anew, in case the other family's has overwritten its files
    environment.pip('MMDetection', '--no-build-isolation', *MMDET, *OPENCV)
    environment.pip('This package and its tools for tests', '-e', f'{ROOT}[dev]')
    if not environment.works(PROBE_ALL):
        raise PrepareError(
            f'Everything is installed, but importing it fails; see the end of {environment.log}. '
            f'If that does not help: delete {environment.folder} and start again.'
        )
    temporary = environment.stamp.with_suffix('.tmp')
    temporary.write_text(wanted(environment))
    temporary.replace(environment.stamp)


def is_ready(environment):
    stamped = environment.stamp.is_file() and environment.stamp.read_text() == wanted(environment)
    return stamped and environment.works(PROBE_ALL)


def activation(environment):
    """The command for the prompt."""
    script = environment.python.parent / 'activate'
    return str(script) if os.name == 'nt' else f'source {shlex.quote(str(script))}'


@contextlib.contextmanager
def one_at_a_time(folder):
    """Wait for another preparation of the same checkout."""
    try:
        import fcntl
    except ImportError:  # Windows
        yield
        return
    with (folder.parent / f'{folder.name}.lock').open('w') as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print('Another process prepares this checkout; waiting for it.', flush=True)
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def main(args=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--check', action='store_true', help='only look; exit with 1 if not ready')
    parser.add_argument(
        '--folder', type=Path, default=ROOT / '.venv', help='of the virtual environment'
    )
    args = parser.parse_args(args)
    if sys.version_info < (3, 10):  # noqa: UP036, whoever has an older one shall read why
        return f'Python 3.10 or later is needed, this is {platform.python_version()}.'
    environment = Environment(args.folder.resolve())
    if args.check:
        ready = is_ready(environment)
        print(f'{environment.folder}: {"ready" if ready else "not ready"}')
        return 0 if ready else 1
    with one_at_a_time(environment.folder):
        if is_ready(environment):
            print(f'Ready: {environment.folder}. To work in it: {activation(environment)}')
            return 0
        start = time.monotonic()
        print(f'Preparing {environment.folder}. What the steps print goes to prepare.log in it.')
        try:
            prepare(environment)
        except PrepareError as error:
            return f'{error}'
        except KeyboardInterrupt:
            return '\nInterrupted. What is done stays; the next run goes on from there.'
        print(f'Ready after {(time.monotonic() - start) / 60:.1f} minutes.')
        print(f'To work in it: {activation(environment)}')
    return 0


if __name__ == '__main__':
    sys.exit(main())
