"""Mixed precision on a GPU is MMEngine's own."""

import pytest
import torch
from mmdet.registry import OPTIM_WRAPPERS
from mmengine.optim import AmpOptimWrapper
from test_amp_optim_wrapper import batches, network

import mmdet_yolo2fl  # noqa: F401

pytestmark = [
    pytest.mark.cuda,
    pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a GPU'),
]


@pytest.fixture(scope='module', autouse=True)
def plain_machine():
    """Instead of the folder's fixture, which hides the GPU."""


def train(wrapper_type: str, dtype: str | None, state: dict | None = None) -> torch.nn.Module:
    model = network().cuda()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    wrapper = OPTIM_WRAPPERS.build(dict(type=wrapper_type, optimizer=optimizer, dtype=dtype))
    assert isinstance(wrapper, AmpOptimWrapper) and wrapper.loss_scaler.is_enabled()
    if state is not None:
        wrapper.load_state_dict(dict(optimizer.state_dict(), **state))
    for batch in batches(3):
        with wrapper.optim_context(model):
            output = model(batch.cuda())
        assert output.dtype == (torch.float16 if dtype is None else torch.bfloat16)
        wrapper.update_params(output.float().square().mean())
    return model


@pytest.mark.parametrize('dtype', [None, 'bfloat16'])
def test_equals_amp_optim_wrapper(dtype):
    ours, theirs = train('YOLOV2AmpOptimWrapper', dtype), train('AmpOptimWrapper', dtype)
    for weight, expected in zip(ours.parameters(), theirs.parameters()):
        torch.testing.assert_close(weight, expected)


def test_goes_on_from_a_state_saved_on_a_cpu():
    resumed = train('YOLOV2AmpOptimWrapper', None, state=dict(loss_scaler={}))
    for weight, expected in zip(resumed.parameters(), train('AmpOptimWrapper', None).parameters()):
        torch.testing.assert_close(weight, expected)
