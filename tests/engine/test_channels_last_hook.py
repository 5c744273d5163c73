"""The memory format reaches every activation, and touches nothing else."""

import pytest
import torch
from mmdet.registry import MODELS
from mmengine.hooks import Hook
from mmengine.runner import Runner, load_checkpoint
from tiny_run import assert_same_weights, config, model_cfg, train
from torch import nn

import mmdet_yolo2fl  # noqa: F401

CHANNELS_LAST = dict(hooks=[dict(type='ChannelsLastHook')])


def is_channels_last(x: torch.Tensor) -> bool:
    return x.is_contiguous(memory_format=torch.channels_last)


def watch_activations(model: nn.Module) -> list[bool]:
    """Whether each activation of each layer is in channels-last format, as they come."""
    seen = []
    for module in model.modules():
        if not list(module.children()):
            module.register_forward_hook(
                lambda _module, _inputs, output: seen.append(
                    output.dim() == 4 and is_channels_last(output)
                )
            )
    return seen


class Watch(Hook):
    def before_train_epoch(self, runner) -> None:
        if runner.epoch == 0:
            layers = nn.ModuleList([runner.model.backbone, runner.model.bbox_head.convs])
            self.seen = watch_activations(layers)


def test_training_validation_saving_and_loading(tmp_path):
    watch = Watch()
    kwargs = dict(epochs=2, scores=[0.5])
    runner = train(tmp_path / 'last', watch=watch, **kwargs, **CHANNELS_LAST)
    # 2 epochs of 4 training and 4 validation batches each, all of them.
    assert len(watch.seen) % 16 == 0 and all(watch.seen)
    weights = [w for w in runner.model.parameters() if w.dim() == 4]
    assert weights and all(map(is_channels_last, weights))

    # The same figures as without the hook, up to the order of sums.
    plain = train(tmp_path / 'plain', **kwargs)
    for ours, theirs in zip(runner.model.parameters(), plain.model.parameters()):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-4)

    # The checkpoint loads into a model in the default format, and into one with the hook.
    fresh = MODELS.build(model_cfg())
    load_checkpoint(fresh, str(tmp_path / 'last/epoch_2.pth'), strict=True)
    assert_same_weights(fresh, runner.model)
    assert all(w.is_contiguous() for w in fresh.parameters())
    resumed = train(tmp_path / 'last', resume=True, epochs=3, **CHANNELS_LAST)
    whole = train(tmp_path / 'whole', epochs=3, **CHANNELS_LAST)
    assert_same_weights(resumed.model, whole.model)


@pytest.mark.parametrize('loop', ['val', 'test'])
def test_evaluation_alone(tmp_path, loop):
    cfg = config(tmp_path, scores=[0.5], **CHANNELS_LAST)
    cfg.test_dataloader, cfg.test_evaluator = cfg.val_dataloader, cfg.val_evaluator
    cfg.test_cfg = dict(type='TestLoop')
    runner = Runner.from_cfg(cfg)
    seen = watch_activations(runner.model.backbone)
    getattr(runner, loop)()
    assert seen and all(seen)


def test_the_pass_through_keeps_the_format():
    cfg = model_cfg()
    cfg['backbone'] = dict(type='Darknet19', widen_factor=0.125, out_indices=(4, 5))
    cfg['neck'] = dict(
        type='YOLOV2Neck', in_channels=(64, 128), out_channels=128, passthrough_channels=8
    )
    cfg['bbox_head']['in_channels'] = 4 * 8 + 128
    model = MODELS.build(cfg).to(memory_format=torch.channels_last)
    seen = watch_activations(nn.ModuleList([model.backbone, model.neck, model.bbox_head.convs]))
    (output,) = model(torch.rand(2, 3, 64, 96), mode='tensor')
    assert is_channels_last(output)
    assert all(seen)
