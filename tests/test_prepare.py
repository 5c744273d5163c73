"""tools/prepare.py, with a virtual environment whose pip and probes are made up here."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture
def prepare(monkeypatch):
    spec = importlib.util.spec_from_file_location('prepare', ROOT / 'tools' / 'prepare.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setenv('TORCH', 'torch==2.13.0')
    return module


class Machine:
    """Stands for a virtual environment: says what is installed, and notes what is asked of it.

    Args:
        good_after (int): From which installation of MMCV on its ops run.
    """

    def __init__(self, prepare, folder, good_after):
        self.prepare, self.good_after, self.steps = prepare, good_after, []
        self.environment = environment = prepare.Environment(folder)
        environment.pip = lambda what, *arguments: self.steps.append(arguments)
        environment.works = self.works
        # Of the module made for this test.
        prepare.check_compiler = lambda environment: None
        prepare.has_wheel = lambda environment: True
        prepare.check_cuda = lambda environment: None

    @property
    def mmcv(self):
        return [step for step in self.steps if self.prepare.MMCV in step]

    def works(self, code):
        if 'mmcv.ops' not in code:
            return True
        return len(self.mmcv) >= self.good_after


@pytest.mark.parametrize('good_after', [0, 1, 2, 3])
def test_mmcv_is_repaired_in_stages(prepare, tmp_path, monkeypatch, good_after):
    emptied = []
    monkeypatch.setattr(prepare.subprocess, 'run', lambda command, **_: emptied.append(command))
    machine = Machine(prepare, tmp_path, good_after)
    prepare.prepare(machine.environment)
    forced = ['--force-reinstall' in step for step in machine.mmcv]
    assert forced == [False, True, True][:good_after]
    assert all('--no-build-isolation' in step for step in machine.mmcv)
    # pip's bad wheel goes only when reinstalling it did not help
    assert [command[-2:] for command in emptied] == [['remove', 'onedl_mmcv']] * (good_after == 3)
    assert prepare.is_ready(machine.environment)


def test_gives_up_with_a_message_and_without_a_stamp(prepare, tmp_path, monkeypatch):
    monkeypatch.setattr(prepare.subprocess, 'run', lambda *_, **__: None)
    machine = Machine(prepare, tmp_path, good_after=9)
    with pytest.raises(prepare.PrepareError, match='ops do not run'):
        prepare.prepare(machine.environment)
    assert len(machine.mmcv) == 3
    assert not prepare.is_ready(machine.environment)


def test_torch_comes_before_mmcv_and_mmdetection_after(prepare, tmp_path):
    machine = Machine(prepare, tmp_path, good_after=1)
    prepare.prepare(machine.environment)
    first = [step[0] for step in machine.steps if step[0] != '--no-build-isolation']
    assert first[0] == 'torch==2.13.0'
    position = machine.steps.index(machine.mmcv[0])
    assert any(prepare.MMDET[0] in step for step in machine.steps[position:])
    assert machine.steps[-1][0] == '-e'


def test_is_ready_only_for_what_is_wanted_now(prepare, tmp_path, monkeypatch):
    machine = Machine(prepare, tmp_path, good_after=0)
    assert not prepare.is_ready(machine.environment)
    prepare.prepare(machine.environment)
    assert prepare.is_ready(machine.environment)
    monkeypatch.setenv('TORCH', 'torch==2.11.0')
    assert not prepare.is_ready(machine.environment)
    monkeypatch.setenv('TORCH', 'torch==2.13.0')
    machine.good_after = 1  # its ops are gone
    assert not prepare.is_ready(machine.environment)


def test_keeps_to_the_pytorch_that_was_chosen(prepare, tmp_path, monkeypatch):
    machine = Machine(prepare, tmp_path, good_after=0)
    monkeypatch.setenv('TORCH', 'torch==2.11.0 --index-url somewhere')
    prepare.prepare(machine.environment)
    monkeypatch.delenv('TORCH')  # as the `make test` of another day has it
    assert prepare.is_ready(machine.environment)
    machine.steps.clear()
    prepare.prepare(machine.environment)
    assert machine.steps[0] == ('torch==2.11.0', '--index-url', 'somewhere')
    monkeypatch.setenv('TORCH', '')
    assert not prepare.is_ready(machine.environment)
    monkeypatch.setattr(prepare.shutil, 'which', lambda _: '/usr/bin/nvidia-smi')
    prepare.prepare(machine.environment)
    monkeypatch.delenv('TORCH')
    assert prepare.is_ready(machine.environment)
    assert prepare.torch_wish(machine.environment) == ''


def test_the_probe_finds_an_mmcv_without_ops(prepare, tmp_path, monkeypatch):
    environment = prepare.Environment(tmp_path)
    environment.python = Path(sys.executable)
    assert environment.works(prepare.PROBE)
    (tmp_path / 'broken' / 'mmcv').mkdir(parents=True)
    (tmp_path / 'broken' / 'mmcv' / '__init__.py').write_text("__version__ = '2.3.6'")
    monkeypatch.setenv('PYTHONPATH', str(tmp_path / 'broken'))
    assert not environment.works(prepare.PROBE)
    assert "No module named 'mmcv.ops'" in environment.log.read_text()


def test_a_failing_step_shows_the_end_of_its_output(prepare, tmp_path):
    environment = prepare.Environment(tmp_path)
    environment.python = Path(sys.executable)
    environment.run('Fine', '-c', 'print("well")')
    with pytest.raises(prepare.PrepareError, match='(?s)no compiler here.*Broken: failed after'):
        environment.run('Broken', '-c', 'import sys; sys.exit("no compiler here")')
    assert 'well' in environment.log.read_text()


def test_a_missing_compiler_is_told_before_compiling(prepare, tmp_path, monkeypatch):
    environment = prepare.Environment(tmp_path)
    environment.python = Path(sys.executable)
    cached = subprocess.CompletedProcess([], 0, stdout=' - onedl_mmcv-2.3.6-cp311.whl (33 MB)')
    nothing = subprocess.CompletedProcess([], 1, stdout='No locally built wheels cached.')
    offered = subprocess.CompletedProcess([], 0, stdout='No locally built wheels cached.')
    monkeypatch.setattr(prepare.shutil, 'which', lambda _: None)
    monkeypatch.setattr(prepare.subprocess, 'run', lambda *_, **__: cached)
    assert prepare.has_wheel(environment)  # none is needed
    monkeypatch.setattr(prepare.subprocess, 'run', lambda *_, **__: offered)
    assert prepare.has_wheel(environment)  # nor where PIP_FIND_LINKS has a wheel
    monkeypatch.setattr(prepare.subprocess, 'run', lambda *_, **__: nothing)
    assert not prepare.has_wheel(environment)
    with pytest.raises(prepare.PrepareError, match='(?s)C.. compiler.*build-essential'):
        prepare.check_compiler(environment)


@pytest.fixture
def with_gpu(prepare, tmp_path, monkeypatch):
    """An environment whose PyTorch says what it is told to, and an nvcc of CUDA 12.8."""
    nvcc = tmp_path / 'cuda/bin/nvcc'
    nvcc.parent.mkdir(parents=True)
    nvcc.write_text('#!/bin/sh\necho "Cuda compilation tools, release 12.8, V12.8.93"\n')
    nvcc.chmod(0o755)
    environment = prepare.Environment(tmp_path)

    def says(is_seen, cuda, home=tmp_path / 'cuda'):
        environment.ask = lambda code: [str(is_seen), cuda, str(home)]
        return environment

    return says


@pytest.mark.skipif(os.name == 'nt', reason='the compiler that is made up here is a shell script')
def test_a_gpu_without_its_compiler_is_told_before_compiling(
    prepare, with_gpu, tmp_path, monkeypatch
):
    prepare.check_cuda(with_gpu(True, '12.6'))
    for cuda, home, words in (
        ('13.0', tmp_path / 'cuda', 'built for CUDA 13.0, and there is nvcc of CUDA 12.8'),
        ('13.0', '', 'built for CUDA 13.0, and there is no nvcc'),
    ):
        with pytest.raises(prepare.PrepareError, match=words):
            prepare.check_cuda(with_gpu(True, cuda, home))
    prepare.check_cuda(with_gpu(False, '', ''))
    monkeypatch.setenv('FORCE_CUDA', '1')
    prepare.check_cuda(with_gpu(False, '12.6'))
    with pytest.raises(prepare.PrepareError, match='built without CUDA, .* 12.8'):
        prepare.check_cuda(with_gpu(False, ''))


def test_a_gpu_without_its_compiler_keeps_the_wheel_for_others(prepare, tmp_path, monkeypatch):
    """Of a CPU, say, as pip has kept it; it is removed only for a new one."""
    emptied = []
    monkeypatch.setattr(prepare.subprocess, 'run', lambda command, **_: emptied.append(command))

    def refuse(environment):
        raise prepare.PrepareError('no nvcc')

    for number, has_wheel in enumerate((True, False)):
        machine = Machine(prepare, tmp_path / str(number), good_after=9)
        prepare.check_cuda, prepare.has_wheel = refuse, lambda _, has=has_wheel: has
        machine.environment.folder.mkdir()
        with pytest.raises(prepare.PrepareError, match='no nvcc'):
            prepare.prepare(machine.environment)
        # Without one it is told before the first attempt.
        assert len(machine.mmcv) == 2 * has_wheel and not emptied


def test_a_gpu_that_pytorch_does_not_see_is_told(prepare, with_gpu, monkeypatch, capsys):
    prepare.check_cuda(with_gpu(False, '13.0'))
    assert not capsys.readouterr().out
    monkeypatch.setattr(prepare.shutil, 'which', lambda *_, **__: '/usr/bin/nvidia-smi')
    prepare.check_cuda(with_gpu(False, '13.0'))
    assert 'does not see the GPU' in capsys.readouterr().out


def test_forced_cuda_wants_pytorch_for_it_and_ops_of_it(monkeypatch):
    monkeypatch.setenv('FORCE_CUDA', '1')
    spec = importlib.util.spec_from_file_location('prepare', ROOT / 'tools' / 'prepare.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module.shutil, 'which', lambda _: None)
    monkeypatch.setattr(module.urllib.request, 'urlopen', None)
    assert module.torch_arguments('') == [module.TORCH]
    assert 'get_compiling_cuda_version' in module.PROBE_ALL


def test_settings_of_the_compiler(prepare, monkeypatch):
    for cores, jobs in ((2, '2'), (4, '4'), (8, '7')):
        monkeypatch.setattr(prepare.os, 'sched_getaffinity', lambda _, n=cores: range(n), False)
        assert prepare.compiler_settings() == dict(MAX_JOBS=jobs)
    monkeypatch.setenv('VSCMD_ARG_TGT_ARCH', 'x64')
    assert prepare.compiler_settings()['DISTUTILS_USE_SDK'] == '1'


def test_steps_are_given_the_settings(prepare, tmp_path, monkeypatch):
    environment = prepare.Environment(tmp_path)
    environment.python = Path(sys.executable)
    monkeypatch.delenv('MAX_JOBS', raising=False)
    code = 'import os; print("jobs", os.environ["MAX_JOBS"])'
    environment.run('Default', '-c', code)
    monkeypatch.setenv('MAX_JOBS', '77')
    environment.run('Given', '-c', code)
    log = environment.log.read_text()
    jobs = prepare.compiler_settings()['MAX_JOBS']
    assert f'jobs {jobs}\n' in log and 'jobs 77\n' in log


def test_without_a_gpu_the_index_of_small_builds_is_used_if_it_answers(prepare, monkeypatch):
    monkeypatch.setattr(prepare.sys, 'platform', 'linux')
    monkeypatch.setattr(prepare.shutil, 'which', lambda _: None)

    class Answer:
        def close(self):
            pass

    monkeypatch.setattr(prepare.urllib.request, 'urlopen', lambda *_, **__: Answer())
    assert prepare.torch_arguments('') == [prepare.TORCH, '--extra-index-url', prepare.CPU_INDEX]

    def refuse(*_, **__):
        raise OSError('no network')

    monkeypatch.setattr(prepare.urllib.request, 'urlopen', refuse)
    assert prepare.torch_arguments('') == [prepare.TORCH]
    monkeypatch.setattr(prepare.shutil, 'which', lambda _: '/usr/bin/nvidia-smi')
    monkeypatch.setattr(prepare.urllib.request, 'urlopen', lambda *_, **__: Answer())
    assert prepare.torch_arguments('') == [prepare.TORCH]


@pytest.mark.skipif(os.name == 'nt', reason='Windows wants rights for links')
def test_python_is_linked(prepare, tmp_path, monkeypatch):
    """A copy of uv's Python does not find its libpython."""
    create = prepare.venv.create

    def without_pip(folder, with_pip, **options):
        create(folder, **options)

    monkeypatch.setattr(prepare.venv, 'create', without_pip)
    environment = prepare.Environment(tmp_path / 'env')
    prepare.create(environment)
    assert environment.python.is_symlink()


def test_check_says_what_it_finds(tmp_path):
    command = [sys.executable, str(ROOT / 'tools' / 'prepare.py'), '--check', '--folder']
    result = subprocess.run([*command, str(tmp_path / 'none')], capture_output=True, text=True)
    assert result.returncode == 1 and 'not ready' in result.stdout
    assert not os.listdir(tmp_path)


def test_help_of_make_names_the_commands():
    output = subprocess.run(['make'], cwd=ROOT, capture_output=True, text=True).stdout
    assert all(f'make {name}' in output for name in ('demo', 'test', 'env', 'lint'))
