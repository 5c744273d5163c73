import pytest
import torch

from .jobs import Jobs


@pytest.fixture(scope='package')
def jobs(tmp_path_factory):
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp('jobs') / 'input'
    return Jobs(folder, epochs=2, scenes=6, images=30, formats=('darknet',))
