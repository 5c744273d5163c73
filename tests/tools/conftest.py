import importlib.util
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def tool(monkeypatch):
    """The ``main`` of a tool, to be run in this process, which its settings do not outlive."""
    monkeypatch.setenv('TORCH_FORCE_WEIGHTS_ONLY_LOAD', '0')
    monkeypatch.setenv('LOCAL_RANK', '0')

    def load(name):
        spec = importlib.util.spec_from_file_location(f'tool_{name}', ROOT / f'tools/{name}.py')
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module.main

    return load


@pytest.fixture
def refused(capsys):
    """Runs a ``main`` that must end with a usage error; returns its last line."""

    def run(main, *args):
        with pytest.raises(SystemExit) as stop:
            main([str(arg) for arg in args])
        assert stop.value.code == 2
        message = capsys.readouterr().err
        assert 'Traceback' not in message
        return message.strip().splitlines()[-1]

    return run
