"""The Triton kernels against the sum in blocks; in Triton's interpreter where there is no GPU."""

import os

import pytest
import torch

if not torch.cuda.is_available():
    os.environ['TRITON_INTERPRET'] = '1'  # before the first import
pytest.importorskip('triton', reason='needs Triton: pip install triton')

from mmdet_yolo2fl.models.losses import BalancedFocalLoss, focal_triton  # noqa: E402
from mmdet_yolo2fl.models.losses.focal_sum import focal_sum, triton_works  # noqa: E402

from .test_focal_sum import ARGUMENTS, C, make  # noqa: E402

DEVICE = 'cuda' if torch.cuda.is_available() else 'cpu'


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    """Several blocks that begin within a row, and a last one that is not full."""
    monkeypatch.setattr(focal_triton, 'BLOCK', 64)


def compare(terms, logits, target, score, weight, dtype=torch.float32):
    results = []
    for function, device in ((focal_sum, 'cpu'), (focal_triton.triton_focal_sum, DEVICE)):
        # A leaf of its own: `to` returns the same tensor where nothing changes.
        x = logits.detach().to(device, dtype).clone().requires_grad_()
        args = [None if a is None else a.to(device) for a in (target, score, weight)]
        moved = terms._replace(
            **{
                name: value.to(device)
                for name, value in terms._asdict().items()
                if isinstance(value, torch.Tensor)
            }
        )
        value = function(x, args[0], moved, args[1], args[2])
        (value * 0.7).backward()
        results.append((value.cpu(), x.grad.cpu()))
    for expected, found in zip(*results):
        tolerance = dict(rtol=1e-4, atol=1e-6) if dtype == torch.float32 else {}
        torch.testing.assert_close(found, expected, **tolerance)


@pytest.mark.parametrize('arguments', ARGUMENTS, ids=str)
@pytest.mark.parametrize('kind', ['labels', 'scores', 'soft'])
def test_equals_the_sum_in_blocks(arguments, kind):
    logits, labels, score, soft = make()
    logits[0] = torch.tensor([1e4, -1e4, 60.0, -60.0, 0.0])
    loss = BalancedFocalLoss(use_sigmoid=True, **arguments)
    target, score = dict(labels=(labels, None), scores=(labels, score), soft=(soft, None))[kind]
    for weight in (None, soft[:, :1] * 2, soft.flip(0)):
        compare(loss.terms, logits, target, score, weight)


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_half_precision(dtype):
    logits, labels, *_ = make()
    logits[0] = torch.tensor(
        [9.5, 12.0, -9.5, 30.0, -30.0]
    )  # where a float16 sigmoid is 0 or 1, or near
    compare(BalancedFocalLoss().terms, logits, labels, None, None, dtype)


def test_gamma_and_scale_of_each_class():
    logits, labels, *_ = make()
    terms = BalancedFocalLoss(poly_epsilon=0.5).terms
    terms = terms._replace(gamma=torch.linspace(0.5, 3, C), scale=torch.linspace(1, 2, C))
    compare(terms, logits, labels, None, None)
    compare(terms._replace(gamma=torch.tensor(1.7), scale=None), logits, labels, None, None)


@pytest.mark.parametrize('classes', [1, 2, 6, 8, 80])
@pytest.mark.parametrize('kind', ['labels', 'scores', 'soft'])
def test_any_number_of_classes(classes, kind):
    """Neighbours in a row are worked on together where the number of classes allows it."""
    generator = torch.Generator().manual_seed(classes)
    logits = torch.randn(23, classes, generator=generator) * 3
    labels = torch.randint(0, classes + 1, (23,), generator=generator)
    score, soft = torch.rand(23, generator=generator), torch.rand(23, classes, generator=generator)
    target, score = dict(labels=(labels, None), scores=(labels, score), soft=(soft, None))[kind]
    compare(BalancedFocalLoss().terms, logits, target, score, soft[:, :1])


@pytest.mark.parametrize('weighted', [False, True])
def test_elements_that_stand_for_themselves_have_four_columns(weighted, monkeypatch):
    """Else every size of image would compile anew for YOLOv3's objectness."""
    seen, launch = set(), focal_triton._launch

    def noted(out, grad_output, logits, *arguments):
        seen.add(logits.shape[1])
        launch(out, grad_output, logits, *arguments)

    monkeypatch.setattr(focal_triton, '_launch', noted)
    terms = BalancedFocalLoss(gamma=1.5).terms
    for shape, columns in (((2, 507), 2), ((4, 75), 4), ((3, 43), 1), ((9, 1), 1), ((8, 1), 4)):
        logits, target, weight = torch.rand(3, *shape, generator=torch.Generator().manual_seed(0))
        compare(terms, logits * 8 - 4, target.round(), None, weight if weighted else None)
        assert seen == {columns}
        seen.clear()
    # One weight for each row, or an alpha for each class, wants the rows.
    logits, target = torch.randn(4, 6), torch.rand(4, 6).round()
    compare(terms, logits, target, None, torch.rand(4, 1))
    compare(BalancedFocalLoss(alpha=[0.1] * 6).terms, logits, target, None, None)
    assert seen == {6}


def test_small_losses_keep_their_digits():
    """Well classified elements of cross entropy, of which a detector has most."""
    logits = torch.linspace(-30, 0, 300).reshape(60, C)
    labels = torch.full((60,), C)
    terms = BalancedFocalLoss(gamma=0, alpha=None).terms
    for row, label in zip(logits.split(1), labels.split(1)):
        found = focal_triton.triton_focal_sum(row.to(DEVICE), label.to(DEVICE), terms)
        expected = torch.nn.functional.softplus(row.double()).sum()
        assert found.item() == pytest.approx(expected.item(), rel=1e-5)


@pytest.mark.cuda
def test_the_loss_takes_the_kernels(monkeypatch):
    calls = []
    launch = focal_triton._launch
    logits, labels, *_ = make()
    assert triton_works(logits.cuda().device)  # tries a kernel, once in a process
    monkeypatch.setattr(focal_triton, '_launch', lambda *a: (calls.append(1), launch(*a)))
    BalancedFocalLoss().cuda()(logits.cuda().requires_grad_(), labels.cuda()).backward()
    assert len(calls) == 2
