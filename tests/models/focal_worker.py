"""One of two processes that share a batch."""

import torch
import torch.distributed as dist

from mmdet_yolo2fl.models import AutomatedFocalLoss, EqualizedFocalLoss


def batch():
    """Three steps of logits ``(40, 3)`` and indices, the same everywhere."""
    generator = torch.Generator().manual_seed(0)
    for _ in range(3):
        labels = torch.randint(0, 4, (40,), generator=generator)
        yield torch.randn(40, 3, generator=generator), labels


def losses():
    return dict(automated=AutomatedFocalLoss(), equalized=EqualizedFocalLoss(num_classes=3))


def train(rows):
    """States after the steps on some rows of each batch, and every gamma."""
    found = {}
    for name, loss in losses().items():
        gammas = []
        for pred, labels in batch():
            loss(pred[rows].requires_grad_(), labels[rows], avg_factor=5.0).backward()
            loss.synchronize()
            gammas.append(loss.gamma.clone())
        found[name] = (loss.state_dict(), torch.stack(gammas))
    return found


def train_alone(rank):
    """States after an iteration in which only the first process had objects to call it with."""
    found = {}
    for name, loss in losses().items():
        if rank == 0:
            pred, labels = next(batch())
            loss(pred.requires_grad_(), labels)
        loss.synchronize()
        found[name] = loss.state_dict()
    return found


def share(rank, folder):
    """Write ``rank_{rank}.pth`` of half of the batch, and ``alone_{rank}.pth``."""
    dist.init_process_group(
        'gloo', init_method=(folder / 'rendezvous').as_uri(), rank=rank, world_size=2
    )
    torch.save(train(slice(20 * rank, 20 * rank + 20)), folder / f'rank_{rank}.pth')
    torch.save(train_alone(rank), folder / f'alone_{rank}.pth')
    dist.destroy_process_group()
