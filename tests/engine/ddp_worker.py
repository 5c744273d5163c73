"""One of two processes that share a batch."""

from pathlib import Path
from types import SimpleNamespace

import torch
import torch.distributed as dist
from mmdet.registry import MODELS
from mmengine.model import MMDistributedDataParallel
from mmengine.registry import init_default_scope
from tiny_run import RandomBoxes, model_cfg
from torch import nn

from mmdet_yolo2fl.engine import FocalLossAnalysisHook


def build_model() -> nn.Module:
    """A model as it is after some training, with batch norm in eval mode."""
    init_default_scope('mmdet')
    torch.manual_seed(0)
    model = MODELS.build(model_cfg())
    model.init_weights()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -0.1, 0.1)
            nn.init.uniform_(module.running_var, 0.5, 2)
            module.eval()
    return model


def losses_and_gradients(model: nn.Module, indices: range) -> dict:
    """Forward and backward on images of :class:`RandomBoxes`."""
    inner = getattr(model, 'module', model)
    samples = [RandomBoxes()[index] for index in indices]
    data = inner.data_preprocessor(
        {key: [sample[key] for sample in samples] for key in samples[0]}, training=True
    )
    total, log = inner.parse_losses(model(**data, mode='loss'))
    total.backward()
    return dict(
        losses={name: value.detach() for name, value in log.items()},
        gradients={name: weight.grad for name, weight in inner.named_parameters()},
        seen=inner.bbox_head.seen,
    )


def look_at(rank: int, folder: Path) -> None:
    """Write ``looks_{rank}.pth``: when a resumed run looks at its losses."""
    dist.init_process_group(
        'gloo', init_method=(folder / 'rendezvous').as_uri(), rank=rank, world_size=2
    )
    hook = FocalLossAnalysisHook(interval=3)
    runner = SimpleNamespace(
        model=build_model(),
        train_dataloader=SimpleNamespace(dataset=None),
        work_dir=folder / f'of_{rank}',  # as on another machine
        iter=6,
        _resume=True,
    )
    hook.before_train(runner)
    looks = []
    for runner.iter in range(6, 20):
        hook.before_train_iter(runner, 0)
        if hook._looking:
            looks.append(runner.iter + 1)
    records = {name: len(history.iters) for name, history in hook.histories.items()}
    torch.save((looks, records), folder / f'looks_{rank}.pth')
    dist.destroy_process_group()


def share(rank: int, folder: Path) -> None:
    """Write ``rank_{rank}.pth`` of half of the images."""
    dist.init_process_group(
        'gloo', init_method=(folder / 'rendezvous').as_uri(), rank=rank, world_size=2
    )
    model = MMDistributedDataParallel(build_model())
    torch.save(
        losses_and_gradients(model, range(4 * rank, 4 * rank + 4)), folder / f'rank_{rank}.pth'
    )
    dist.destroy_process_group()
