import pytest

from tests.tools.conftest import tool, write_data, write_squares  # noqa: F401


@pytest.fixture(scope='package')
def world(tmp_path_factory):
    """Folder of a data set of four images, its config, and a checkpoint; not to be changed."""
    folder = tmp_path_factory.mktemp('world')
    config, checkpoint = write_squares(folder, write_data(folder / 'data'))
    return folder / 'data', config, checkpoint
