"""Draws focal loss as a function: the pictures of docs/focal_loss.md.

python tools/plot_focal_loss.py --out docs --gammas 0 0.5 1 2 5

focal_loss_gamma.png: the loss, and its derivatives by pt and by the logit, over pt for each gamma.
focal_loss_family.png: cross entropy, balanced cross entropy and focal loss of an object and of the
background over the predicted probability. All from the package's own loss and autograd.
"""

import argparse
from pathlib import Path

import torch
from matplotlib.figure import Figure

from mmdet_yolo2fl.models.losses import balanced_focal_loss
from mmdet_yolo2fl.whole_files import write_png


def parse_args(args=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--gammas', type=float, nargs='+', default=[0, 0.5, 1, 2, 5])
    parser.add_argument(
        '--alpha', type=float, default=0.25, help='of the second picture (default: 0.25)'
    )
    parser.add_argument('--out', type=Path, default=Path('docs'), help='folder (default: docs)')
    args = parser.parse_args(args)
    if not all(0 <= gamma < 100 for gamma in args.gammas) or not 0 <= args.alpha <= 1:
        parser.error('--gammas must lie in 0..100 and --alpha in 0..1')
    return args


def curves(gamma, alpha, target, logits):
    """The loss over the logits, and its derivative by them."""
    logits = logits.clone().requires_grad_()
    labels = torch.full_like(logits, target)
    loss = balanced_focal_loss(logits[:, None], labels[:, None], gamma, alpha)[:, 0]
    (slope,) = torch.autograd.grad(loss.sum(), logits)
    return loss.detach(), slope


def draw_gammas(gammas):
    figure = Figure(figsize=(15, 4.5), layout='constrained')
    axes = figure.subplots(1, 3)
    logits = torch.linspace(-5, 6, 1001, dtype=torch.float64)
    pt = logits.sigmoid()
    for gamma in gammas:
        loss, by_logit = curves(gamma, None, 1.0, logits)
        label = f'gamma {gamma:g}' + (' (cross entropy)' if gamma == 0 else '')
        axes[0].plot(pt, loss, label=label)
        axes[1].plot(pt, by_logit / (pt * (1 - pt)), label=label)
        axes[2].plot(pt, by_logit, label=label)
    axes[0].set(title='Loss', ylabel='FL', ylim=(0, 5))
    axes[1].set(title='Derivative by pt', ylabel='dFL/dpt', ylim=(-12, 0.5))
    axes[2].set(title='Derivative by the logit', ylabel='dFL/dz', ylim=(-1.5, 0.05))
    for axis in axes:
        axis.axvspan(0.6, 1, color='tab:green', alpha=0.07)
        axis.set(xlabel='pt, the probability of the right answer', xlim=(0, 1))
        axis.grid(alpha=0.3)
    axes[0].text(0.8, 4.6, 'well classified', ha='center', color='tab:green')
    axes[0].legend()
    return figure


def draw_family(alpha):
    figure = Figure(figsize=(11, 4.5), layout='constrained')
    axes = figure.subplots(1, 2)
    logits = torch.linspace(-7, 7, 1001, dtype=torch.float64)
    family = {
        'cross entropy': (0.0, None),
        f'balanced cross entropy, alpha {alpha:g}': (0.0, alpha),
        'focal loss, gamma 2': (2.0, None),
        f'focal loss, gamma 2, alpha {alpha:g}': (2.0, alpha),
    }
    for axis, target, what in zip(axes, (1.0, 0.0), ('an object', 'the background')):
        for name, (gamma, at) in family.items():
            loss, _ = curves(gamma, at, target, logits)
            axis.plot(logits.sigmoid(), loss, label=name)
        axis.set(title=f'Loss of {what}', xlabel='predicted probability of an object')
        axis.set(ylabel='loss', xlim=(0, 1), ylim=(1e-6, 10), yscale='log')
        axis.grid(alpha=0.3)
    axes[0].legend(loc='lower left')
    return figure


def main(args=None):
    args = parse_args(args)
    figures = dict(gamma=draw_gammas(args.gammas), family=draw_family(args.alpha))
    for name, figure in figures.items():
        path = args.out / f'focal_loss_{name}.png'
        write_png(path, figure, dpi=80)
        print(f'Saved {path}')


if __name__ == '__main__':
    main()
