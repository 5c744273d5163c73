"""Finds out, before anything else is imported, whether MMDetection is there and works."""

import importlib
import re
import warnings

FAMILIES = (
    'MMDetection comes from one of two families, which share their import names; keep to one:\n'
    '  - OneDL, maintained, works with current PyTorch:\n'
    '      pip install "setuptools<81" wheel ninja psutil numpy\n'
    '      pip install --no-build-isolation onedl-mmcv==2.3.6\n'
    '      pip install --no-build-isolation onedl-mmdetection==3.5.1 "opencv-python<5"\n'
    "  - OpenMMLab's own, with PyTorch 2.1 to 2.5 (before 2.3 also numpy<2 in the last line):\n"
    '      pip install "setuptools<81" openmim\n'
    '      mim install --no-build-isolation "mmengine>=0.10" "mmcv>=2.0.0rc4,<2.2" mmdet==3.3.0 '
    '"opencv-python<5"\n'
    'Install torch first (https://pytorch.org/get-started): mmcv compiles against it.'
)


def check_environment() -> None:
    """Check that PyTorch, MMEngine, MMCV with its compiled ops, and MMDetection work together.

    Looks at versions and imports, starts no process. Warns of combinations of which only a part
    fails.

    Raises:
        ImportError: If one is missing, too old or unusable. The message says what to install.
    """
    torch = _require('torch', 'PyTorch is not installed.')
    mmengine = _require('mmengine', 'MMEngine is not installed.')
    mmcv = _require('mmcv', 'MMCV is not installed.')
    for library in (torch, mmengine, mmcv):
        # Python imports a folder without its __init__.py too
        if not hasattr(library, '__version__'):
            raise _error(
                f'{library.__name__} is damaged: only a part of its files is there, as after '
                'uninstalling one family while the other was installed as well. Uninstall both '
                f'and install one anew. The rest lies in {list(library.__path__)}.'
            )
    if _version(torch.__version__) < (2, 1):
        raise _error(f'PyTorch {torch.__version__} is too old: this package needs 2.1 or later.')
    if _version(torch.__version__) < (2, 3):
        numpy = _require('numpy', 'NumPy is not installed.')
        if _version(numpy.__version__) >= (2, 0):
            raise _error(
                f'PyTorch {torch.__version__} was built for NumPy 1, and NumPy '
                f'{numpy.__version__} is installed: pip install "numpy<2" "opencv-python<4.12" '
                '(later OpenCVs want NumPy 2).'
            )
    if _version(mmcv.__version__) < (2, 0):
        raise _error(f'MMCV {mmcv.__version__} is too old: MMDetection 3 needs 2.0 or later.')
    _require(
        'mmcv._ext',
        f'MMCV {mmcv.__version__} has no usable compiled ops, which MMDetection needs. Either it '
        "is 'mmcv-lite', or it was built where torch was not visible (leave out build isolation), "
        f'or for another PyTorch than the installed {torch.__version__}. Reinstall it with '
        '--force-reinstall --no-deps --no-cache-dir --no-build-isolation.',
    )
    with warnings.catch_warnings():
        # Of an optional, faster evaluator; a newcomer reads it as an error.
        warnings.filterwarnings('ignore', message='.*faster.?coco.?eval.*')
        mmdet = _require('mmdet', 'MMDetection is not installed.')
    if _version(mmdet.__version__) < (3, 0):
        raise _error(
            f'MMDetection {mmdet.__version__} is too old: this package needs 3.0 or later.'
        )
    if _version(torch.__version__) >= (2, 6) and _version(mmengine.__version__) < (0, 10, 8):
        warnings.warn(
            f'MMEngine {mmengine.__version__} by itself cannot resume a run with PyTorch '
            f'{torch.__version__}: since 2.6 torch.load refuses what its checkpoints contain. '
            "The tools of mmdet_yolo2fl can; for MMDetection's use onedl-mmengine 0.10.12 or a "
            'PyTorch below 2.6.',
            stacklevel=3,
        )


def _require(module: str, problem: str):
    """Import ``module``, or say what is wrong and what the import itself said."""
    try:
        return importlib.import_module(module)
    # A library built for another PyTorch fails with OSError; mmdet asserts its versions.
    except (ImportError, OSError, AssertionError) as error:
        if not isinstance(error, ModuleNotFoundError) or error.name != module:
            problem = f'{problem}\n(importing {module}: {type(error).__name__}: {error})'
        raise _error(problem) from error


def _error(problem: str) -> ImportError:
    return ImportError(f'mmdet_yolo2fl: {problem}\n\n{FAMILIES}')


def _version(text: str) -> tuple[int, ...]:
    """The leading numbers of a version: (2, 13, 0) of '2.13.0+cpu'."""
    return tuple(int(part) for part in re.match(r'\d+(\.\d+)*', text).group().split('.'))
