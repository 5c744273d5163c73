"""What `import mmdet_yolo2fl` says where MMDetection is missing or broken."""

import subprocess
import sys
from pathlib import Path

import pytest

from mmdet_yolo2fl.environment import check_environment

ROOT = Path(__file__).parents[1]
WORKING = {
    'torch': "__version__ = '2.13.0+cpu'",
    'mmengine': "__version__ = '0.10.12'",
    'mmcv': "__version__ = '2.3.6'",
    'mmcv._ext': '',
    'mmdet': "__version__ = '3.5.1'",
}


def import_beside(folder, modules):
    """Import the package where only these modules exist besides Python's own."""
    for name, source in modules.items():
        path = folder.joinpath(*name.split('.'))
        path.parent.mkdir(parents=True, exist_ok=True)
        if '.' in name:
            path.with_suffix('.py').write_text(source)
        else:
            path.mkdir(exist_ok=True)
            (path / '__init__.py').write_text(source)
    # The package's __init__ would go on and import the parts: here a module with its path alone
    # stands for it.
    script = f"""
import sys, types
sys.path.insert(0, {str(folder)!r})
package = sys.modules['mmdet_yolo2fl'] = types.ModuleType('mmdet_yolo2fl')
package.__path__ = [{str(ROOT / 'mmdet_yolo2fl')!r}]
from mmdet_yolo2fl.environment import check_environment
check_environment()
"""
    # -S: without the installed packages
    result = subprocess.run(
        [sys.executable, '-S', '-E', '-c', script], capture_output=True, text=True, cwd=folder
    )
    return result.returncode, result.stderr


def test_a_working_environment_passes_silently(tmp_path):
    assert import_beside(tmp_path, WORKING) == (0, '')


def test_an_old_pytorch_with_its_numpy_passes(tmp_path):
    old = dict(torch="__version__ = '2.1.2+cu118'", numpy="__version__ = '1.26.4'")
    assert import_beside(tmp_path, WORKING | old) == (0, '')


def test_this_environment_passes():
    check_environment()


@pytest.mark.parametrize(
    'changes, message',
    [
        (dict(torch=None), 'PyTorch is not installed'),
        (dict(torch="__version__ = '2.0.1+cu118'"), 'PyTorch 2.0.1+cu118 is too old'),
        (dict(torch="__version__ = '2.2.2'"), 'NumPy is not installed'),
        (
            dict(torch="__version__ = '2.2.2'", numpy="__version__ = '2.2.6'"),
            'PyTorch 2.2.2 was built for NumPy 1, and NumPy 2.2.6 is installed',
        ),
        (dict(mmengine=None), 'MMEngine is not installed'),
        (dict(mmcv=None), 'MMCV is not installed'),
        (dict(mmcv="__version__ = '1.7.2'"), 'MMCV 1.7.2 is too old'),
        ({'mmcv._ext': None}, 'no usable compiled ops'),
        (
            {'mmcv._ext': "raise ImportError('_ext.so: undefined symbol: _ZN3c10')"},
            'undefined symbol: _ZN3c10',
        ),
        ({'mmcv._ext': "raise OSError('libc10.so: cannot open')"}, 'no usable compiled ops'),
        (dict(mmdet=None), 'MMDetection is not installed'),
        (dict(mmdet="__version__ = '2.28.2'"), 'MMDetection 2.28.2 is too old'),
        (
            dict(mmdet="assert False, 'MMCV==2.2.0 is used but incompatible'"),
            'MMCV==2.2.0 is used but incompatible',
        ),
    ],
)
def test_one_clear_error_that_says_what_to_install(tmp_path, changes, message):
    modules = {k: v for k, v in (WORKING | changes).items() if v is not None}
    if 'mmcv' not in modules:
        del modules['mmcv._ext']
    code, output = import_beside(tmp_path, modules)
    assert code == 1 and message in output
    last_error = output.split('ImportError: mmdet_yolo2fl:')[-1]
    assert message in last_error
    assert 'pip install --no-build-isolation onedl-mmcv' in last_error


def test_a_pair_that_cannot_resume_is_warned_of(tmp_path):
    code, output = import_beside(tmp_path, WORKING | dict(mmengine="__version__ = '0.10.7'"))
    assert code == 0 and 'cannot resume a run' in output
