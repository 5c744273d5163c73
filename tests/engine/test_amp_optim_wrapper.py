"""Mixed precision, here on the processor."""

import copy

import pytest
import torch
from mmdet.registry import OPTIM_WRAPPERS
from tiny_run import ITERS_PER_EPOCH, InterruptedRunError, assert_same_weights, train
from torch import nn

from mmdet_yolo2fl.engine.optimizers.amp_optim_wrapper import has_fast_bfloat16

WRAPPER = 'mmdet_yolo2fl.engine.optimizers.amp_optim_wrapper'


@pytest.fixture(autouse=True)
def _a_processor_with_bfloat16(monkeypatch):
    monkeypatch.setattr(f'{WRAPPER}.has_fast_bfloat16', lambda: True)


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 2, 3))


def wrap(model: nn.Module, **kwargs):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    return OPTIM_WRAPPERS.build(dict(type='YOLOV2AmpOptimWrapper', optimizer=optimizer, **kwargs))


def batches(count: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(2, 3, 8, 8, generator=generator) for _ in range(count)]


def loss_of(model: nn.Module, batch: torch.Tensor) -> torch.Tensor:
    output = model(batch)
    assert output.dtype == torch.bfloat16
    return output.float().square().mean()


@pytest.mark.parametrize('accumulate', [1, 2])
@pytest.mark.parametrize('max_norm', [None, 0.01])
@pytest.mark.parametrize('dtype', [None, 'bfloat16', torch.bfloat16])
def test_equals_a_plain_loop(accumulate, max_norm, dtype):
    model = network()
    clip_grad = None if max_norm is None else dict(max_norm=max_norm)
    wrapper = wrap(model, accumulative_counts=accumulate, clip_grad=clip_grad, dtype=dtype)
    wrapper.initialize_count_status(model, 0, 4)
    for batch in batches(4):
        with wrapper.optim_context(model):
            loss = loss_of(model, batch)
        wrapper.update_params(loss)

    expected = network()
    optimizer = torch.optim.SGD(expected.parameters(), lr=0.1, momentum=0.9)
    for i, batch in enumerate(batches(4)):
        with torch.autocast('cpu', torch.bfloat16):
            loss = loss_of(expected, batch)
        (loss / accumulate).backward()
        assert all(w.grad.dtype == torch.float32 for w in expected.parameters())
        if (i + 1) % accumulate == 0:
            if max_norm is not None:
                nn.utils.clip_grad_norm_(expected.parameters(), max_norm)
            optimizer.step()
            optimizer.zero_grad()
    assert_same_weights(model, expected)
    assert all(w.dtype == torch.float32 for w in model.parameters())


def step(model, wrapper, batch):
    with wrapper.optim_context(model):
        loss = loss_of(model, batch)
    wrapper.update_params(loss)


@pytest.mark.parametrize(
    'scaler', ['own', None, dict(scale=65536.0, growth_factor=2.0)], ids=['cpu', 'float32', 'cuda']
)
def test_goes_on_from_a_saved_state(scaler):
    model = network()
    wrapper = wrap(model)
    step(model, wrapper, batches(2)[0])
    state = copy.deepcopy(wrapper.state_dict())
    if scaler is None:
        del state['loss_scaler']
    elif scaler != 'own':
        state['loss_scaler'] = scaler

    resumed = copy.deepcopy(model)
    other = wrap(resumed)
    other.load_state_dict(state)
    for net, optim in ((model, wrapper), (resumed, other)):
        step(net, optim, batches(2)[1])
    assert_same_weights(model, resumed)


@pytest.mark.parametrize('dtype', ['float16', torch.float16, 'float32', 'bf16'])
def test_other_types_are_refused_on_a_cpu(dtype):
    with pytest.raises(ValueError, match='must be bfloat16'):
        wrap(network(), dtype=dtype)


def test_trains_and_resumes_with_channels_last(tmp_path):
    kwargs = dict(
        optim_wrapper=dict(type='YOLOV2AmpOptimWrapper', clip_grad=dict(max_norm=35)),
        hooks=[dict(type='ChannelsLastHook')],
    )
    whole = train(tmp_path / 'whole', **kwargs)
    stop = dict(type='InterruptHook', at_iter=ITERS_PER_EPOCH + 1)
    with pytest.raises(InterruptedRunError):
        train(tmp_path / 'cut', **dict(kwargs, hooks=[*kwargs['hooks'], stop]))
    resumed = train(tmp_path / 'cut', resume=True, **kwargs)
    assert_same_weights(whole.model, resumed.model)

    plain = train(tmp_path / 'plain')
    change = [
        (ours - theirs).abs().max().item()
        for ours, theirs in zip(whole.model.parameters(), plain.model.parameters())
    ]
    # Another precision, the same training.
    assert 0 < max(change) < 0.05


@pytest.mark.parametrize(
    'isa, expected',
    [(None, True), ('AVX512_CORE_VNNI', False), ('avx2', False), ('AVX512_CORE_AMX', True)],
)
def test_onednn_may_be_kept_from_bfloat16(monkeypatch, isa, expected):
    monkeypatch.setattr(torch.cpu, '_is_avx512_bf16_supported', lambda: True, raising=False)
    monkeypatch.delenv('ONEDNN_MAX_CPU_ISA', raising=False)
    if isa:
        monkeypatch.setenv('ONEDNN_MAX_CPU_ISA', isa)
    assert has_fast_bfloat16() == expected


def test_the_reason_on_mps(monkeypatch):
    said = []
    monkeypatch.setattr(f'{WRAPPER}.get_device', lambda: 'mps')
    monkeypatch.setattr(f'{WRAPPER}.print_log', lambda text, **_: said.append(text))
    wrap(network())
    assert said == ["MMEngine's autocast does not know Apple's MPS: training in float32."]


@pytest.mark.parametrize('dtype, expected', [(None, torch.float32), ('bfloat16', torch.bfloat16)])
def test_a_processor_that_emulates_bfloat16_stays_in_float32(monkeypatch, dtype, expected):
    monkeypatch.setattr(f'{WRAPPER}.has_fast_bfloat16', lambda: False)
    model = network()
    wrapper = wrap(model, dtype=dtype)
    with wrapper.optim_context(model):
        assert model(batches(1)[0]).dtype == expected
