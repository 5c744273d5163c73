from collections import Counter

import pytest

from tests.tools.conftest import tool, write_data, write_squares  # noqa: F401

from .reaction import EXECUTED

# The suite is as large as it says: so many distinct inputs at least, by module.
LEAST = dict(
    test_checkpoints=100, test_coco=700, test_config_files=50, test_config_parts=800,
    test_darknet_data=80, test_darknet_network=1000, test_images=200, test_tool_arguments=200,
    test_voc=90,
)  # fmt: skip


@pytest.fixture(scope='package')
def world(tmp_path_factory):
    """Folder of a data set of four images, its config, and a checkpoint; not to be changed."""
    folder = tmp_path_factory.mktemp('world')
    config, checkpoint = write_squares(folder, write_data(folder / 'data'))
    return folder / 'data', config, checkpoint


@pytest.fixture
def training(world, tmp_path, monkeypatch):
    """A config that trains an epoch of four images in a second, in an empty folder."""
    data, config, _ = world
    monkeypatch.chdir(tmp_path)
    path = tmp_path / 'good.py'
    path.write_text(
        f"""
_base_ = {str(config)!r}
train_cfg = dict(max_epochs=1, val_interval=9)
train_dataloader = dict(
    batch_size=2, num_workers=0, persistent_workers=False,
    dataset=dict(
        _delete_=True, type='CocoDataset', data_root={str(data)!r}, ann_file='train.json',
        data_prefix=dict(img=''), metainfo=dict(classes=('red', 'blue')), pipeline=_base_.pipeline))
default_hooks = dict(checkpoint=dict(save_best=None))
"""
    )
    return path


@pytest.fixture(scope='module')
def executed_tests(request):
    """Counts the tests of a module; behind the last one, its inputs."""
    EXECUTED.clear()
    tests = Counter()
    yield tests
    name = request.module.__name__.rpartition('.')[2]
    collected = sum(item.module is request.module for item in request.session.items)
    chosen = request.config.option.keyword or any('::' in arg for arg in request.config.args)
    if chosen or tests['run'] < collected:  # the rest runs in another process, or not at all
        return
    counts = {kind: len(cases) for kind, cases in EXECUTED.items()}
    print(f'{name}: {counts} distinct bad inputs')
    assert sum(counts.values()) >= LEAST[name], counts


@pytest.fixture(autouse=True)
def _counted(executed_tests):
    executed_tests['run'] += 1
