import pytest
import torch
from mmdet.registry import MODELS
from torch import nn

import mmdet_yolo2fl  # noqa: F401

WIDTHS = dict(
    Darknet19=[32, 64, 128, 256, 512, 1024], DarknetTiny=[16, 32, 64, 128, 256, 512, 1024]
)


def build(name, **kwargs):
    return MODELS.build(dict(type=name, **kwargs))


@pytest.mark.parametrize('name', WIDTHS)
def test_every_stage_has_its_stride_and_channels(name):
    stages = range(len(WIDTHS[name]))
    model = build(name, widen_factor=0.25, out_indices=stages).eval()
    maps = model(torch.zeros(1, 3, 64, 96))
    for i, (feature, width) in enumerate(zip(maps, WIDTHS[name])):
        stride = 2 ** min(i, 5)
        assert feature.shape == (1, width // 4, 64 // stride, 96 // stride)
    assert model.out_channels == [width // 4 for width in WIDTHS[name]]


@pytest.mark.parametrize('name', WIDTHS)
def test_stages_behind_the_last_are_not_built(name):
    model = build(name, widen_factor=0.1, out_indices=(3, 4))
    assert len(model.stages) == 5
    maps = model(torch.zeros(1, 3, 64, 96))
    assert [tuple(feature.shape[2:]) for feature in maps] == [(8, 12), (4, 6)]
    sum(feature.sum() for feature in maps).backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
    # The others have the weights that they have in the whole.
    whole = build(name, widen_factor=0.1)
    missing, unexpected = whole.load_state_dict(model.state_dict(), strict=False)
    assert not unexpected and {key.split('.')[1] for key in missing} <= {'5', '6'}


def test_the_pooling_of_stride_1_is_darknets():
    # Size 2, stride 1, padded on the right and at the bottom only: by hand.
    model = build('DarknetTiny', widen_factor=0.1)
    pool = model.stages[6][:2]
    x = torch.tensor([[[[1.0, 5.0, 2.0], [7.0, 0.0, 3.0], [-4.0, -2.0, -6.0]]]])
    expected = torch.tensor([[[[7.0, 5.0, 3.0], [7.0, 3.0, 3.0], [-2.0, -2.0, -6.0]]]])
    torch.testing.assert_close(pool(x), expected)


def test_batch_norm_and_activation_are_darknets_by_default():
    model = build('Darknet19', widen_factor=0.1)
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    assert {(m.momentum, m.eps) for m in norms} == {(0.01, 1e-5)}
    slopes = {m.negative_slope for m in model.modules() if isinstance(m, nn.LeakyReLU)}
    assert slopes == {0.1}
    assert model.train() and all(m.training for m in norms)


def test_input_channels_and_activation_by_config():
    model = build('DarknetTiny', in_channels=1, widen_factor=0.1, act_cfg=dict(type='ReLU'))
    assert model(torch.zeros(2, 1, 64, 64))[0].shape[0] == 2
    assert not any(isinstance(m, nn.LeakyReLU) for m in model.modules())


@pytest.mark.parametrize('name', WIDTHS)
def test_frozen_stages_do_not_move(name):
    model = build(name, widen_factor=0.1, frozen_stages=2).train()
    model(torch.rand(2, 3, 64, 64))[-1].sum().backward()
    for i, stage in enumerate(model.stages):
        frozen = i < 2
        assert all((p.grad is None) == frozen for p in stage.parameters())
        norms = [m for m in stage.modules() if isinstance(m, nn.BatchNorm2d)]
        assert all(m.training != frozen for m in norms)
        assert all((m.num_batches_tracked == 0) == frozen for m in norms)


def test_norm_eval_keeps_statistics():
    model = build('Darknet19', widen_factor=0.1, norm_eval=True).train()
    before = {k: v.clone() for k, v in model.state_dict().items() if 'running' in k}
    model(torch.rand(2, 3, 64, 64))
    assert all(torch.equal(model.state_dict()[k], v) for k, v in before.items())


def test_outputs_keep_their_scale_at_initialization():
    torch.manual_seed(0)
    model = build('Darknet19', widen_factor=0.25)
    model.init_weights()
    out = model(torch.randn(4, 3, 64, 64))[-1]
    assert 0.1 < out.std() < 10


@pytest.mark.parametrize(
    'kwargs, message',
    [
        (dict(widen_factor=0), 'widen_factor must be positive'),
        (dict(out_indices=(6,)), r'out_indices must lie in 0\.\.5'),
        (dict(out_indices=()), 'out_indices'),
        (dict(frozen_stages=9), r'frozen_stages must lie in -1\.\.6'),
    ],
)
def test_bad_arguments(kwargs, message):
    with pytest.raises(ValueError, match=f'Darknet19: {message}|{message}'):
        build('Darknet19', **kwargs)


def test_ceil_mode_keeps_the_last_row_of_an_odd_size():
    # Darknet's pooling of 3x3, by hand; of an even size nothing changes.
    pool = build('DarknetTiny', widen_factor=0.1, ceil_mode=True).stages[1][0]
    x = torch.tensor([[[[1.0, 5.0, 2.0], [7.0, 0.0, 3.0], [-4.0, -2.0, -6.0]]]])
    torch.testing.assert_close(pool(x), torch.tensor([[[[7.0, 3.0], [-2.0, -6.0]]]]))
    kept, cut = (build('DarknetTiny', widen_factor=0.1, ceil_mode=m).eval() for m in (True, False))
    cut.load_state_dict(kept.state_dict())
    images = torch.rand(1, 3, 64, 96)
    torch.testing.assert_close(kept(images)[0], cut(images)[0], rtol=0, atol=0)
    shapes = [net(torch.rand(1, 3, 240, 320))[0].shape[2:] for net in (kept, cut)]
    assert shapes == [(8, 10), (7, 10)]
