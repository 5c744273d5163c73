"""Times focal loss, forward and backward, at the size of a large detector's batch.

python tools/benchmark_focal_loss.py                    2 x 100,000 anchors x 80 classes on a CPU
python tools/benchmark_focal_loss.py --images 16        RetinaNet's batch, on a GPU

Side by side in one run, alternating, medians: read the ratios. Prints Markdown tables: time, extra
memory at the peak (the gradient included), the share of the measured copy bandwidth that 12 bytes
an element (6 in half precision) make of the time, and the largest error of the gradient against
autograd in float64.
"""

import argparse
import statistics
from functools import partial

import torch
import torch.nn.functional as F
from mmdet.models.losses import FocalLoss
from mmdet.models.losses.focal_loss import py_sigmoid_focal_loss

from mmdet_yolo2fl.measure import alternate, clock, machine, peak_memory, use
from mmdet_yolo2fl.models.losses import BalancedFocalLoss, balanced_focal_loss

GAMMA, ALPHA = 2.0, 0.25
DTYPES = dict(float32=torch.float32, bfloat16=torch.bfloat16)


def parse_args(args=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--images', type=int, help='default: 2 on a CPU, 16 on a GPU')
    parser.add_argument('--anchors', type=int, default=100_000, help='anchors an image')
    parser.add_argument('--classes', type=int, default=80)
    parser.add_argument('--positives', type=float, default=0.005, help='share of positive anchors')
    parser.add_argument('--repeat', type=int, default=10, help='measurements of each')
    parser.add_argument('--dtypes', nargs='+', choices=DTYPES, default=list(DTYPES))
    parser.add_argument('--device', default='cuda' if torch.cuda.is_available() else 'cpu')
    args = parser.parse_args(args)
    if args.images is None:
        args.images = 16 if 'cuda' in args.device else 2
    if min(args.images, args.anchors, args.classes, args.repeat) < 1:
        parser.error('--images, --anchors, --classes and --repeat must be at least 1')
    return args


def make_batch(args, dtype):
    """Logits as a network has them after some training, and class indices."""
    generator = torch.Generator().manual_seed(0)
    rows = args.images * args.anchors
    logits = torch.randn(rows, args.classes, generator=generator) * 1.5 - 4
    labels = torch.full((rows,), args.classes)
    positive = torch.rand(rows, generator=generator) < args.positives
    labels[positive] = torch.randint(args.classes, (int(positive.sum()),), generator=generator)
    return logits.to(args.device, dtype), labels.to(args.device)


def torchvisions_formula(logits, labels):
    """As torchvision writes it: cross entropy with logits, times (1 - pt)^gamma and alpha."""
    targets = one_hot(logits, labels)
    prob = logits.sigmoid()
    entropy = F.binary_cross_entropy_with_logits(logits, targets, reduction='none')
    pt = prob * targets + (1 - prob) * (1 - targets)
    loss = entropy * (1 - pt) ** GAMMA
    return ((ALPHA * targets + (1 - ALPHA) * (1 - targets)) * loss).sum()


def one_hot(logits, labels):
    return F.one_hot(labels, logits.shape[1] + 1)[:, :-1].to(logits.dtype)


def contestants(device):
    """Functions of (logits, labels) that return the sum, by name; the first is the baseline."""
    found = {}
    if 'cuda' in device:
        from mmcv.ops import sigmoid_focal_loss

        found['MMCV sigmoid_focal_loss + sum'] = lambda z, y: sigmoid_focal_loss(
            z, y, GAMMA, ALPHA, None, 'none'
        ).sum()
        module = FocalLoss()
        found['MMDetection FocalLoss'] = lambda z, y: module(z, y, avg_factor=1.0)
    else:
        found['MMDetection py_sigmoid_focal_loss'] = lambda z, y: py_sigmoid_focal_loss(
            z, one_hot(z, y), gamma=GAMMA, alpha=ALPHA, reduction='sum'
        )
    found["torchvision's formula"] = torchvisions_formula
    found['plain formula of this project'] = lambda z, y: balanced_focal_loss(
        z, one_hot(z, y), GAMMA, ALPHA
    ).sum()
    loss = BalancedFocalLoss(use_sigmoid=True, gamma=GAMMA, alpha=ALPHA).to(device)
    found['BalancedFocalLoss'] = lambda z, y: loss(z, y, avg_factor=1.0)
    return found


def step(function, logits, labels):
    """Forward and backward; the gradient."""
    logits = logits.detach().requires_grad_()
    function(logits, labels).backward()
    return logits.grad


def runnable(functions, logits, labels):
    """Those that take this number type; MMCV's kernels, for one, know no bfloat16."""
    found = {}
    for key, function in functions.items():
        try:
            step(function, logits[:64], labels[:64])
        except (RuntimeError, NotImplementedError) as error:
            print(f'{key} does not run on {logits.dtype}: {str(error).splitlines()[0]}')
        else:
            found[key] = function
    return found


def copy_bandwidth(device, repeat):
    """Bytes a millisecond of a large copy, reads and writes counted."""
    source = torch.ones(1 << 26, device=device)
    target = torch.empty_like(source)
    times = [clock(device, target.copy_, source) for _ in range(repeat + 2)][2:]
    return 2 * source.numel() * source.element_size() / statistics.median(times)


def gradient_error(function, logits, labels):
    """Largest error of the gradient on some rows, relative to its largest value."""
    # Enough rows for positives, few enough for float64.
    logits, labels = logits[:20000], labels[:20000]
    exact = logits.double().requires_grad_()
    balanced_focal_loss(exact, one_hot(exact, labels), GAMMA, ALPHA).sum().backward()
    found = step(function, logits, labels).double()
    return float((found - exact.grad).abs().max() / exact.grad.abs().max())


def measure(args, name):
    """Rows of the table of one number type."""
    logits, labels = make_batch(args, DTYPES[name])
    functions = runnable(contestants(args.device), logits, labels)
    steps = {key: partial(step, one, logits, labels) for key, one in functions.items()}
    times = alternate(steps, args.device, args.repeat)
    floor = 3 * logits.numel() * logits.element_size() / copy_bandwidth(args.device, args.repeat)
    size = logits.numel() * logits.element_size()
    baseline = statistics.median(next(iter(times.values())))  # the first that runs
    rows = []
    for key, function in functions.items():
        median = statistics.median(times[key])
        extra = peak_memory(args.device, step, function, logits, labels)
        rows.append(
            f'| {key} | {median:.1f} | {min(times[key]):.1f} | {max(times[key]):.1f} '
            f'| {baseline / median:.2f} | {extra / size:.2f} | {floor / median:.0%} '
            f'| {gradient_error(function, logits, labels):.0e} |'
        )
    return rows, floor


def main(args=None):
    args = parse_args(args)
    use(args.device)
    print(machine(args.device))
    print(f'{args.images} images x {args.anchors} anchors x {args.classes} classes')
    for name in args.dtypes:
        rows, floor = measure(args, name)
        print(
            f'\n\n{name}: forward and backward; at copy bandwidth {floor:.1f} ms\n\n'
            '| | median ms | min | max | speed-up | peak / logits | of copy bandwidth '
            '| gradient error |\n|---|---|---|---|---|---|---|---|\n' + '\n'.join(rows)
        )


if __name__ == '__main__':
    main()
