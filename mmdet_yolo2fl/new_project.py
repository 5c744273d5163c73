"""Starts a project of one's own: copies what travels in the package: configs, tools and more.

python -m mmdet_yolo2fl.new_project my_project
cd my_project
python tools/train.py configs/yolov2_fl.py
"""

import argparse
import shutil
import sys
import tempfile
from pathlib import Path

# In a wheel they lie in the package, in a checkout beside it.
SOURCES = (Path(__file__).parent / '_project', Path(__file__).parents[1])
PARTS = ('configs', 'tools', 'studies', 'examples')
# What only a checkout needs.
LEFT_OUT = ('prepare.py', '__pycache__')


def new_project(folder: str | Path) -> Path:
    """Copy ``PARTS`` into a new folder.

    Args:
        folder (str | Path): It must not exist, or be empty.

    Returns:
        Path: The folder, complete.

    Raises:
        FileExistsError: If there is something in it.
        FileNotFoundError: If the package was installed without them.
    """
    folder = Path(folder)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise FileExistsError(f'{folder} is there already and not empty: choose another name')
    for source in SOURCES:
        if all((source / name).is_dir() for name in PARTS):
            break
    else:
        raise FileNotFoundError(
            f'{SOURCES[0]} is missing: install mmdet_yolo2fl from a wheel or a checkout'
        )
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix='.unfinished-', dir=folder) as unfinished:
        copies = [
            shutil.copytree(
                source / name, Path(unfinished, name), ignore=shutil.ignore_patterns(*LEFT_OUT)
            )
            for name in PARTS
        ]
        for copy in copies:
            # The source may be read-only, and these files are to be changed.
            for path in (copy, *copy.rglob('*')):
                path.chmod(path.stat().st_mode | (0o700 if path.is_dir() else 0o600))
            copy.rename(folder / copy.name)
    return folder


def main(args=None):
    parser = argparse.ArgumentParser(
        prog='python -m mmdet_yolo2fl.new_project',
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('folder', help='the new project; must not exist, or be empty')
    try:
        folder = new_project(parser.parse_args(args).folder)
    except OSError as error:
        sys.exit(str(error))
    print(
        f'{folder} has configs/, tools/, studies/ and examples/. Next:\n'
        f'  cd {folder}\n'
        '  python tools/train.py configs/yolov2_fl.py    (draws its data set on first use)\n'
        '  python tools/demo.py                          (the same, with pictures and tables)'
    )


if __name__ == '__main__':
    main()
