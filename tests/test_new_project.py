"""The wheel holds all that a user without a checkout needs."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from mmdet_yolo2fl.new_project import PARTS, new_project

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope='module')
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp('wheel')
    source = folder / 'source'  # building must not leave anything in the checkout
    keep = ('mmdet_yolo2fl', 'configs', 'tools', 'studies', 'examples')
    keep += ('pyproject.toml', 'README.md', 'LICENSE')
    source.mkdir()
    for name in keep:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, source / name)
    subprocess.run(
        [sys.executable, '-m', 'hatchling', 'build', '-t', 'wheel', '-d', str(folder)],
        cwd=source,
        check=True,
        capture_output=True,
    )
    (file,) = folder.glob('*.whl')
    return file


@pytest.fixture(scope='module')
def installed(wheel):
    """The wheel installed into a folder; and how to run Python so that it comes first."""
    folder = wheel.parent / 'site'
    pip = [sys.executable, '-m', 'pip', 'install', '--no-deps', '--no-index', '--target', folder]
    subprocess.run([*pip, wheel], check=True, capture_output=True)
    return dict(os.environ, PYTHONPATH=str(folder), OMP_NUM_THREADS='1')


# As `python -m mmdet_yolo2fl.new_project mine && cd mine && python tools/train.py ...`, but the
# package is imported once, which takes seconds.
PROJECT_AND_TRAINING = """
import os, runpy, sys
import mmdet_yolo2fl
print(mmdet_yolo2fl.__file__)
train = sys.argv[1:]
sys.argv = ['new_project', 'mine']
runpy.run_module('mmdet_yolo2fl.new_project', run_name='__main__')
os.chdir('mine')
sys.path[0], sys.argv = 'tools', train
runpy.run_path(train[0], run_name='__main__')
"""


def test_nothing_that_a_user_has_is_replaced(wheel):
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (n for n in archive.namelist() if n.endswith('.dist-info/METADATA'))
        metadata = archive.read(name).decode()
        assert 'mmdet_yolo2fl/analysis/report.html' in archive.namelist()
    hard = [
        line.removeprefix('Requires-Dist:').strip()
        for line in metadata.splitlines()
        if line.startswith('Requires-Dist:') and 'extra ==' not in line
    ]
    assert hard == ['filelock', 'jinja2', 'platformdirs']
    for extra in ('onedl', 'openmmlab', 'test', 'dev'):
        assert f'Provides-Extra: {extra}' in metadata


def test_a_project_from_the_wheel_trains(installed, tmp_path):
    env = dict(installed, MMDET_YOLO2FL_DATA=str(tmp_path / 'data'))
    small = ['num_images=2', 'image_size=(64,64)']
    options = [f'train_dataloader.dataset.{o}' for o in small]
    options += [f'{s}_dataloader.dataset.{o}' for s in ('val', 'test') for o in small]
    options += [
        'train_dataloader.batch_size=2',
        'model.backbone.widen_factor=0.0625',
        'model.neck.in_channels=(32,64)',
        'model.neck.out_channels=16',
        'model.neck.passthrough_channels=4',
        'model.bbox_head.in_channels=32',
        'model.bbox_head.feat_channels=8',
        'train_cfg.max_epochs=1',
    ]
    for split in ('train', 'val', 'test'):
        options += [f'{split}_dataloader.num_workers=0']
        options += [f'{split}_dataloader.persistent_workers=False']
    train = ['tools/train.py', 'configs/yolov2_fl.py', '--cfg-options', *options]
    command = [sys.executable, '-c', PROJECT_AND_TRAINING, *train]
    run = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr[-3000:]
    assert f'\n{Path(installed["PYTHONPATH"])}/mmdet_yolo2fl/__init__.py\n' in '\n' + run.stdout

    project = tmp_path / 'mine'
    assert (project / 'work_dirs' / 'yolov2_fl' / 'epoch_1.pth').is_file()
    configs = {p.relative_to(ROOT) for p in (ROOT / 'configs').rglob('*.py')}
    assert {p.relative_to(project) for p in (project / 'configs').rglob('*.py')} == configs
    assert not (project / 'tools' / 'prepare.py').exists()


def test_a_folder_with_something_in_it_is_left_alone(tmp_path):
    (tmp_path / 'mine').mkdir()
    assert new_project(tmp_path / 'mine') == tmp_path / 'mine'
    (tmp_path / 'mine' / 'notes.txt').write_text('')
    with pytest.raises(FileExistsError, match='mine is there already'):
        new_project(tmp_path / 'mine')
    assert (tmp_path / 'mine' / 'notes.txt').exists()


def test_of_a_read_only_source(tmp_path, monkeypatch):
    source = tmp_path / 'source'
    for name in PARTS:
        (source / name / 'inner').mkdir(parents=True)
        (source / name / 'inner/file.py').touch()
    paths = [source, *source.rglob('*')]
    for path in paths:
        path.chmod(0o555 if path.is_dir() else 0o444)
    monkeypatch.setattr('mmdet_yolo2fl.new_project.SOURCES', [source])
    new = new_project(tmp_path / 'mine')
    for path in paths:
        path.chmod(0o755)
    assert {path.stat().st_mode & 0o777 for path in new.rglob('*.py')} == {0o644}
    assert all(path.stat().st_mode & 0o700 == 0o700 for path in new.rglob('*') if path.is_dir())
