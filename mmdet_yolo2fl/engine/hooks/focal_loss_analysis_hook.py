"""See what focal loss does to the data of a run."""

from collections.abc import Sequence
from pathlib import Path

import mmcv
import torch
from mmdet.registry import HOOKS
from mmengine.dist import all_reduce, broadcast_object_list, is_main_process
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner
from torch import nn

from ...focal_analysis import (
    COUNT,
    GRADIENT,
    LOSS,
    SUPPORTED,
    History,
    bin_edges,
    draw,
    load_histories,
    observe,
    save_histories,
)
from ...whole_files import write_png

# What MMDetection's heads call their classification losses.
NAMES = ('loss_cls', 'initial_loss_cls', 'loss_obj', 'loss_conf')
MAX_CLASS_SCALARS = 20
# The file is written anew with every checkpoint: so many records, and so many numbers by class.
MAX_RECORDS, MAX_NUMBERS = 2000, 1_000_000


@HOOKS.register_module()
class FocalLossAnalysisHook(Hook):
    """Record, now and then, which elements the classification losses look at.

    ``custom_hooks = [dict(type='FocalLossAnalysisHook')]`` is all. In every ``interval``-th
    iteration each such loss is taken once more on what the head gave it, and every element is
    put into a bin by the probability pt of its right answer: how many there are, what loss they
    have, what gradient. This gives the distribution of pt of positives and negatives, the shares
    of easy and hard ones and of each class, the cumulative curves of the focal loss paper
    (arXiv:1708.02002, figure 4), and the gamma and the weights that adaptive losses are at.

    The shares go to MMEngine's visualizer as ``focal/<loss>/<share>`` (TensorBoard and the others
    show them), all of it into ``<work_dir>/focal_loss/history.json`` whenever a checkpoint is
    saved, and at the end the pictures into the same folder. A resumed run goes on with the
    history. The picture of several runs: ``tools/compare_focal_loss.py``. Whenever there are 2000
    records (fewer with more than 80 classes), every second one is dropped, and half as many are
    taken from then on.

    Args:
        interval (int): Iterations from one look to the next. Defaults to 50.
        losses (Sequence[str], optional): Names of the loss modules, such as
            ``'bbox_head.loss_cls'``. Defaults to None: every ``loss_cls``, ``initial_loss_cls``,
            ``loss_obj`` and ``loss_conf`` of a kind that it knows: :class:`BalancedFocalLoss` and
            its family, MMDetection's ``FocalLoss``, ``CrossEntropyLoss``, ``QualityFocalLoss``,
            ``MSELoss``.
        easy_pt (float): pt from which an element is called easy, in (0, 1). Defaults to 0.9, the
            paper's example of a well-classified one.

    Raises:
        ValueError: If an argument is out of its range, or no such loss is found.
    """

    priority = 'NORMAL'

    def __init__(
        self, interval: int = 50, losses: Sequence[str] | None = None, easy_pt: float = 0.9
    ) -> None:
        if interval < 1:
            raise ValueError(f'FocalLossAnalysisHook: interval must be at least 1, got {interval}')
        if not 0 < easy_pt < 1:
            raise ValueError(f'FocalLossAnalysisHook: easy_pt must lie in (0, 1), got {easy_pt}')
        self.interval = interval
        self.losses = losses
        self.easy_pt = easy_pt
        self.histories: dict[str, History] = {}
        self._handles: list = []
        self._found: dict[str, list] = {}
        self._looking = False

    def before_train(self, runner: Runner) -> None:
        """Find the losses; of a resumed run, also its history."""
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        self.modules = self._choose(model)
        metainfo = getattr(runner.train_dataloader.dataset, 'metainfo', {})
        self.class_names = [str(name) for name in metainfo.get('classes', ())]
        self.edges = torch.tensor(bin_edges(self.easy_pt), dtype=torch.float32)
        self.folder = Path(runner.work_dir, 'focal_loss')
        self.histories = {name: History(self.easy_pt) for name in self.modules}
        if runner._resume and runner.iter:
            file = self.folder / 'history.json'
            found = [load_histories(file) if is_main_process() and file.is_file() else {}]
            # Of the first, which has written it: all must look at the same iterations, and the
            # work directory of another machine may lack it.
            broadcast_object_list(found)
            for name, history in found[0].items():
                if name in self.histories and history.easy_pt == self.easy_pt:
                    history.drop_after(runner.iter)
                    self.histories[name] = history
        # A run in the same process may have been broken off.
        self._remove_handles()
        for name, module in self.modules.items():
            handle = module.register_forward_pre_hook(self._watch(name), with_kwargs=True)
            self._handles.append(handle)

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch=None) -> None:
        """Decide whether to look at this iteration."""
        every = min(history.every for history in self.histories.values())
        self._looking = (runner.iter + 1) % (self.interval * every) == 0

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch=None, outputs=None):
        """Add up what the calls and the ranks saw, and hand it to the visualizer."""
        if not self._looking:
            return
        self._looking = False
        for name, module in self.modules.items():
            self._record(name, module, runner)
        self._found = {}

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Save the history beside the checkpoint."""
        self._save()

    def after_train(self, runner: Runner) -> None:
        """Save the history and draw it."""
        self._remove_handles()
        self._save()
        for name, history in self.histories.items():
            if history.iters and is_main_process():
                write_png(self.folder / f'{name}.png', draw({name: history}), dpi=100)
                picture = mmcv.imread(self.folder / f'{name}.png', channel_order='rgb')
                runner.visualizer.add_image(f'focal_loss_{name}', picture, runner.iter)
                runner.logger.info(f'What {name} looked at: {self.folder / name}.png')
            elif not history.iters:
                runner.logger.warning(
                    f'FocalLossAnalysisHook: {name} was not called in any of the iterations looked '
                    f'at, one of {self.interval}: too few, or a head with a formula of its own'
                )

    def _choose(self, model: nn.Module) -> dict[str, nn.Module]:
        modules = dict(model.named_modules())
        if self.losses is None:
            found = {
                name: module
                for name, module in modules.items()
                if name.split('.')[-1] in NAMES and isinstance(module, SUPPORTED)
            }
        else:
            found = {name: modules.get(name) for name in self.losses}
        wrong = [name for name, module in found.items() if not isinstance(module, SUPPORTED)]
        if wrong or not found:
            losses = {
                name: type(module).__name__
                for name, module in modules.items()
                if 'loss' in name.split('.')[-1]
            }
            kinds = ', '.join(kind.__name__ for kind in SUPPORTED)
            problem = f'cannot look into {wrong}' if wrong else 'found no classification loss'
            raise ValueError(
                f'FocalLossAnalysisHook: {problem}. It knows {kinds} and their subclasses; the '
                f'model has {losses}'
            )
        return found

    def _watch(self, name: str):
        def hook(module, args, kwargs):
            override = kwargs.get('reduction_override', args[4] if len(args) > 4 else None)
            # With 'none' a head compares candidates, as PAA does, and trains nothing.
            if self._looking and torch.is_grad_enabled() and override != 'none':
                self._look(name, module, *args, **kwargs)

        return hook

    @torch.no_grad()
    def _look(self, name, module, pred, target, weight=None, avg_factor=None, *_, **__) -> None:
        if pred.numel() == 0:
            return
        self.edges = self.edges.to(pred.device)
        seen = observe(module, pred, target, weight, avg_factor, self.edges, len(self.class_names))
        # A head calls its loss once for each level.
        if name in self._found:
            seen = [a + b for a, b in zip(seen, self._found[name])]
        self._found[name] = seen

    def _record(self, name: str, module: nn.Module, runner: Runner) -> None:
        if name in self._found:
            table, by_class = self._found[name]
        else:  # this rank had nothing to look at; another may
            device = next(runner.model.parameters()).device
            table = torch.zeros(3, 2, len(self.edges) + 1, dtype=torch.float64, device=device)
            by_class = table.new_zeros(3, 2, len(self.class_names))
        for values in (table, by_class):
            all_reduce(values)
        if not table[COUNT].any():
            return
        history = self.histories[name]
        if (runner.iter + 1) % (self.interval * history.every):
            return
        history.iters.append(runner.iter + 1)
        history.tables.append(table.cpu().numpy())
        if by_class[COUNT].any():
            history.classes = self.class_names
        classes = by_class.cpu().numpy()
        history.append('by_class', classes, classes[COUNT].any(), 0 * classes)
        terms = getattr(module, 'terms', None)
        scale = getattr(terms, 'scale', None)
        for key, value in (
            ('gamma', getattr(module, 'gamma', None)),
            ('weight', getattr(module, 'alpha', None) if scale is None else scale),
        ):
            values = [] if value is None else torch.as_tensor(value).flatten().tolist()
            history.append(key, values, value is not None, [])
        tag = {f'focal/{name}/{key}': value for key, value in self._scalars(history).items()}
        runner.visualizer.add_scalars(tag, step=runner.iter + 1)
        limit = max(200, MAX_NUMBERS // (6 * max(1, len(self.class_names))))
        history.thin(min(MAX_RECORDS, limit))

    def _scalars(self, history: History) -> dict[str, float]:
        last = History(self.easy_pt, history.classes, history.iters[-1:], history.tables[-1:])
        scalars = {key: float(value[0]) for key, value in last.shares().items()}
        if history.by_class and len(history.classes) <= MAX_CLASS_SCALARS:
            last.by_class = history.by_class[-1:]
            for what, kind in ((LOSS, 'loss'), (GRADIENT, 'gradient')):
                for label, share in zip(history.classes, last.class_shares(what)[0]):
                    scalars[f'{label}_{kind}'] = float(share)
        for kind, values in (('gamma', history.gamma), ('weight', history.weight)):
            if values and len(values[-1]) == 1:
                scalars[kind] = values[-1][0]
            elif values and len(values[-1]) == len(history.classes) <= MAX_CLASS_SCALARS:
                for label, value in zip(history.classes, values[-1]):
                    scalars[f'{label}_{kind}'] = value
        # Without positives, or without a loss by element, there is no such share.
        return {key: value for key, value in scalars.items() if value == value}

    def _save(self) -> None:
        if is_main_process() and any(history.iters for history in self.histories.values()):
            self.folder.mkdir(parents=True, exist_ok=True)
            save_histories(self.folder / 'history.json', self.histories)

    def _remove_handles(self) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles = []
