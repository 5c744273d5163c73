import pytest
import torch


@pytest.fixture(scope='module', autouse=True)
def plain_machine():
    """One thread and no accelerator: equal runs are then equal to the last bit."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        for module in (
            'mmengine.runner.runner',
            'mmengine.runner.amp',
            'mmdet_yolo2fl.engine.optimizers.amp_optim_wrapper',
        ):
            patch.setattr(f'{module}.get_device', lambda: 'cpu')
        yield
    torch.set_num_threads(threads)
