"""A search for the parameters of a focal loss, by Optuna (the extra `tune`)."""

import functools
import gc
import hashlib
import inspect
import json
import re
from collections import ChainMap
from collections.abc import Iterator, Sequence
from copy import deepcopy
from pathlib import Path

import optuna
import torch
from mmdet.evaluation import CocoMetric
from mmdet.registry import MODELS
from mmengine.config import Config, ConfigDict
from mmengine.hooks import Hook
from mmengine.logging import MessageHub
from mmengine.registry import RUNNERS
from mmengine.runner import Runner
from mmengine.visualization import Visualizer

from .config_parts import begin_anew, type_name
from .models.losses import AutomatedFocalLoss, EqualizedFocalLoss
from .tables import markdown_table
from .whole_files import write_png

# What may be searched. Gamma 5 is the largest of the focal loss paper (table 1b).
SPACE = dict(
    gamma=dict(low=0.0, high=5.0),
    alpha=dict(low=0.05, high=0.95),
    loss_weight=dict(low=0.25, high=16.0, log=True),
)
# How often a trial is tried again that did not come to its end.
RETRIES = 2
# Tried first: cross entropy as the control, then the paper's choice, then the config's own.
FIRST = (dict(gamma=0.0, alpha=0.5), dict(gamma=2.0, alpha=0.25), {})


def space_of(loss: type) -> dict[str, dict]:
    """``SPACE``, as far as a class of losses takes it.

    ``EqualizedFocalLoss`` knows no gamma of 0, and ``AutomatedFocalLoss`` finds its own.
    """
    space = dict(SPACE)
    if issubclass(loss, EqualizedFocalLoss):
        space['gamma'] = dict(low=0.25, high=5.0)
    if issubclass(loss, AutomatedFocalLoss):
        del space['gamma']
    return space


class UnknownMetricError(KeyError):
    """The validation has no such metric."""


class PruningHook(Hook):
    """Reports the metric of each validation to a trial, and stops it where it has no chance.

    Args:
        trial (optuna.Trial): The trial that this run is.
        metric (str | None): The metric's name, or None for the first average precision.
    """

    priority = 'VERY_LOW'  # behind the hooks that note the metrics

    def __init__(self, trial: optuna.Trial, metric: str | None) -> None:
        self.trial = trial
        self.metric = metric
        self.values: list[float] = []

    def after_val_epoch(self, runner: Runner, metrics: dict | None = None) -> None:
        """Report, and raise ``TrialPruned`` if Optuna says so.

        MMDetection's ``CocoMetric`` reports nothing at all where no box reaches the score
        threshold: that is a precision of 0, also where another metric beside it has a figure.
        """
        value, metrics = 0.0, metrics or {}
        is_silent = any(
            isinstance(one, CocoMetric) and not any(f'{one.prefix}/' in key for key in metrics)
            for one in runner.val_loop.evaluator.metrics
        )
        if metrics and (self.metric in metrics or not is_silent):
            self.metric = self.metric or first_precision(metrics)
            if self.metric not in metrics:
                raise UnknownMetricError(
                    f'the validation has no metric {self.metric!r}; it has {list(metrics)}'
                )
            value = float(metrics[self.metric])
        self.values.append(value)
        self.trial.report(value, len(self.values))
        if self.trial.should_prune():
            raise optuna.TrialPruned(
                f'{self.metric} {value:.4f} after {len(self.values)} validations'
            )


def first_precision(metrics: dict) -> str:
    """The first metric that is a mean average precision.

    Raises:
        UnknownMetricError: If there is none.
    """
    for name in metrics:
        if re.search(r'(^|[/_])mAP(_|$)', name):
            return name
    raise UnknownMetricError(
        f'none of {list(metrics)} is a mean average precision: name one by --metric'
    )


def find_loss(cfg: Config, slot: str | None = None) -> tuple[str, type]:
    """The key of the focal loss in a config, such as ``model.bbox_head.loss_cls``, and its class.

    Args:
        cfg (Config): The config.
        slot (str, optional): Name or key of the loss; of several stages it means all. Defaults
            to the first whose class takes a gamma.

    Raises:
        ValueError: If there is none, or the name fits several.
    """
    found = {
        key: _class_of(part)
        for key, part in _parts(cfg.model, 'model')
        if 'loss' in key and _takes_gamma(_class_of(part))
    }
    keys = [key for key in found if slot is None or key == slot or key.split('.')[-1] == slot]
    if not keys or (slot is not None and len({*map(_any_stage, keys)}) > 1):
        raise ValueError(
            f'{cfg.filename}: {"no focal loss" if not keys else "several losses"} '
            f'{"" if slot is None else f"named {slot} "}in the model; there are {list(found)}'
        )
    return keys[0], found[keys[0]]


def _parts(node, key: str) -> Iterator[tuple[str, dict]]:
    """Every dict within, with its dotted key."""
    if isinstance(node, dict):
        yield key, node
    children = node.items() if isinstance(node, dict) else enumerate(node)
    for name, child in children:
        if isinstance(child, (dict, list, tuple)):
            yield from _parts(child, f'{key}.{name}')


def _any_stage(key: str) -> str:
    return re.sub(r'\.\d+(?=\.|$)', '', key)


def _class_of(part: dict) -> type | None:
    kind = part.get('type')
    # In configs of pure Python it is a class already.
    return MODELS.get(kind) if isinstance(kind, str) else kind


# Of the matching, with the gamma and alpha of focal loss.
COSTS = ('FocalLossCost', 'BinaryFocalLossCost')
# Their gamma is another one: of boxes, of neighbours of a peak, of a sigmoid.
OTHER_GAMMAS = ('BalancedL1Loss', 'GaussianFocalLoss', 'EQLV2Loss')


def _takes_gamma(loss: type | None) -> bool:
    if loss is None or loss.__name__ in OTHER_GAMMAS:
        return False
    return 'gamma' in inspect.signature(loss).parameters


def changes(cfg: Config, loss_key: str, chosen: dict[str, float]) -> dict[str, float]:
    """What a choice changes in a config: the loss, and the matching costs that are to equal it.

    The same loss in other stages (Sparse R-CNN) is changed with it.

    Args:
        cfg (Config): The config.
        loss_key (str): Of :func:`find_loss`.
        chosen (dict[str, float]): Of ``SPACE``.

    Returns:
        dict[str, float]: Dotted keys and values.
    """
    found, kind = {}, _class_of(loss_at(cfg, loss_key))
    for key, part in _parts(cfg.model, 'model'):
        if _any_stage(key) == _any_stage(loss_key) and _class_of(part) is kind:
            found |= {f'{key}.{name}': value for name, value in chosen.items()}
        elif type_name(part) in COSTS:
            costs = {name: chosen[name] for name in ('gamma', 'alpha') if name in chosen}
            found |= {f'{key}.{name}': value for name, value in costs.items()}
    return found


def loss_at(cfg: Config, loss_key: str) -> ConfigDict:
    """The loss of a config that a key of :func:`find_loss` names."""
    return functools.reduce(
        lambda node, key: node[int(key) if key.isdigit() else key], loss_key.split('.'), cfg
    )


def searched(cfg: Config, loss_key: str, parameters: Sequence[str]) -> list[str]:
    """Those of the parameters that one number can stand for: no list of alphas."""
    loss = loss_at(cfg, loss_key)
    return [name for name in parameters if not isinstance(loss.get(name), (list, tuple))]


def _defaults(kind: type) -> dict:
    return {name: one.default for name, one in inspect.signature(kind).parameters.items()}


def first_trials(
    loss: ConfigDict, search: Sequence[str], space: dict[str, dict] = SPACE
) -> list[dict[str, float]]:
    """The choices of ``FIRST``, with the loss's own values for what they leave open.

    Args:
        loss (ConfigDict): Of :func:`loss_at`.
        search (Sequence[str]): What is searched.
        space (dict[str, dict]): Its bounds. A choice outside of them is left out.

    Returns:
        list[dict[str, float]]: A number for everything that is searched; none twice.
    """
    # A loss may leave some of them to the class that it extends.
    defaults = ChainMap(*(_defaults(kind) for kind in inspect.getmro(_class_of(loss))))
    own = {name: loss.get(name, defaults.get(name)) for name in search}
    trials = []
    for first in FIRST:
        trial = {name: first.get(name, own[name]) for name in search}
        # An alpha may also be None, or a list.
        within = all(
            isinstance(value, (int, float)) and space[name]['low'] <= value <= space[name]['high']
            for name, value in trial.items()
        )
        if within and trial not in trials:
            trials.append(trial)
    return trials


# What may differ between the machines that search together.
OF_A_MACHINE = ('data_root', 'num_workers', 'persistent_workers', 'pin_memory')


def _data_roots(node) -> set[str]:
    """Every ``data_root`` of a config."""
    if isinstance(node, (list, tuple)):
        return set().union(*map(_data_roots, node))
    if not isinstance(node, dict):
        return set()
    own = node.get('data_root')
    return _data_roots(list(node.values())) | ({own} if own and isinstance(own, str) else set())


def remember(study: optuna.Study, cfg: Config, **about: str | None) -> None:
    """Note in a study of what it is, so that it does not go on with something else.

    Args:
        study (optuna.Study): New, or with trials.
        cfg (Config): That is trained.
        **about: What else must stay the same, in words.

    Raises:
        ValueError: If its trials were of another config, or of other words (of another
            ``metric`` only if they have not all failed).
    """

    roots = tuple(sorted(_data_roots(cfg.to_dict()), key=len, reverse=True))

    def portable(node):
        if isinstance(node, dict):
            return {k: portable(child) for k, child in node.items() if k not in OF_A_MACHINE}
        if isinstance(node, (list, tuple)):
            return [portable(child) for child in node]
        if not isinstance(node, str):
            return node
        # The files of evaluators have the folder in their names.
        return next((node[len(root) :] for root in roots if node.startswith(root)), node)

    text = json.dumps(portable(cfg.to_dict()), sort_keys=True, default=str)
    about['config'] = hashlib.sha256(text.encode()).hexdigest()[:16]
    known = dict(study.user_attrs)
    # A misspelt one has failed before it gave a value.
    states = {trial.state for trial in study.trials if trial.state.name != 'WAITING'}
    if states <= {optuna.trial.TrialState.FAIL}:
        known.pop('metric', None)
    changed = [key for key, value in about.items() if key in known and known[key] != value]
    if changed:
        raise ValueError(
            f'its {len(study.trials)} trials have another {" and ".join(changed)}: give another '
            '--work-dir, or delete this one'
        )
    for key, value in about.items():
        study.set_user_attr(key, value)


def run_trial(
    trial: optuna.Trial,
    cfg: Config,
    loss_key: str,
    search: Sequence[str],
    metric: str | None,
    work_dir: Path,
    space: dict[str, dict] = SPACE,
) -> float:
    """Train and evaluate one choice; the best validation of the run.

    Raises:
        optuna.TrialPruned: If Optuna stops it, or its loss is not finite.
    """
    cfg = deepcopy(cfg)
    begin_anew(cfg)
    chosen = {name: trial.suggest_float(name, **space[name]) for name in search}
    cfg.merge_from_dict(changes(cfg, loss_key, chosen))
    cfg.work_dir = str(work_dir / f'trial_{trial.number:04d}')
    # A name of its own: runs of one name share their log.
    cfg.experiment_name = f'{work_dir.name}_trial_{trial.number}'
    if saving := cfg.get('default_hooks', {}).get('checkpoint'):
        # Nobody resumes a trial, and the optimizer's states are twice the weights.
        saving.update(max_keep_ckpts=1, save_optimizer=False)
    pruning = PruningHook(trial, metric)
    runner = RUNNERS.build(cfg) if 'runner_type' in cfg else Runner.from_cfg(cfg)
    runner.register_hook(pruning)
    try:
        runner.train()
    except FloatingPointError as error:  # NonFiniteLossHook
        raise optuna.TrialPruned(str(error)) from error
    finally:
        # The next trial's are of the same names: it would get these, and log into this folder.
        for manager in (type(runner.visualizer), Visualizer, MessageHub):
            manager._instance_dict.clear()
        del runner
        free_memory()
    if not pruning.values:
        raise ValueError(f'{cfg.filename}: the run ended without a validation')
    trial.set_user_attr('metric', pruning.metric)
    return max(pruning.values)


def free_memory() -> None:
    """What a trial has left, for the next one."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def make_study(
    name: str,
    storage: str,
    startup: int,
    seed: int | None,
) -> optuna.Study:
    """Open a study, or go on with the one of this name.

    A trial whose process died is noticed by its missing heartbeat, and tried again. Going on
    draws other numbers than the first time, with the same seed too. Processes that make the
    tables of a SQLite file at the same moment get into each other's way: call it under a lock.
    """
    rdb = optuna.storages.RDBStorage(
        storage,
        heartbeat_interval=30,
        heartbeat_stale_trial_callback=optuna.storages.RetryHeartbeatStaleTrialCallback(
            max_retry=RETRIES
        ),
    )
    options = dict(
        storage=rdb,
        # The first validation says little. Steps begin at 1.
        pruner=optuna.pruners.MedianPruner(n_startup_trials=startup, n_warmup_steps=2),
    )
    try:
        study = optuna.create_study(study_name=name, direction='maximize', **options)
    except optuna.exceptions.DuplicatedStudyError:
        study = optuna.load_study(study_name=name, **options)
    study.sampler = optuna.samplers.TPESampler(
        seed=None if seed is None else seed + len(study.trials),
        multivariate=True,
        constant_liar=True,
        n_startup_trials=startup,
    )
    return study


def enqueue(study: optuna.Study, first: Sequence[dict[str, float]]) -> None:
    """Have the study try these before it draws any: those that it has not tried.

    One that was interrupted, or failed, is tried again, ``RETRIES`` times.
    """
    for values in first:
        same = [t.state for t in study.trials if t.system_attrs.get('fixed_params') == values]
        failed = same.count(optuna.trial.TrialState.FAIL)
        if failed == len(same) and failed <= RETRIES:
            study.enqueue_trial(values)


def best_lines(study: optuna.Study, cfg: Config, loss_key: str) -> str:
    """The best trial as config lines, or, where a list is in the way, for ``--cfg-options``."""
    values = ', '.join(f'{key}={value:.4g}' for key, value in study.best_params.items())
    found = changes(cfg, loss_key, study.best_params)
    if len(found) > len(study.best_params) or any(part.isdigit() for part in loss_key.split('.')):
        options = ' '.join(f'{key}={value:.4g}' for key, value in found.items())
        return f'# --cfg-options {options}'
    lines = values
    for part in reversed(loss_key.split('.')):
        lines = f'{part}=dict({lines})'
    return lines


def table(study: optuna.Study) -> str:
    """All finished trials as a Markdown table, best first."""
    states = (optuna.trial.TrialState.COMPLETE, optuna.trial.TrialState.PRUNED)
    trials = [trial for trial in study.get_trials(states=states) if trial.value is not None]
    trials.sort(key=lambda trial: (trial.state.name != 'COMPLETE', -trial.value))
    names = sorted({name for trial in trials for name in trial.params})
    lines = []
    for trial in trials:
        values = [f'{trial.params.get(name, float("nan")):.4g}' for name in names]
        state = '' if trial.state.name == 'COMPLETE' else 'pruned'
        lines.append([trial.number, *values, f'{trial.value:.4f}', state])
    return markdown_table(['trial', *names, 'value', ''], lines) + '\n'


def draw(study: optuna.Study, folder: Path) -> list[Path]:
    """Optuna's plots as PNG files."""
    import matplotlib

    matplotlib.use('Agg')
    import matplotlib.pyplot as plt
    import optuna.visualization.matplotlib as plots
    from matplotlib.ticker import LogLocator, NullFormatter

    functions = dict(
        history=plots.plot_optimization_history,
        slices=plots.plot_slice,
        learning_curves=plots.plot_intermediate_values,
    )
    complete = study.get_trials(states=(optuna.trial.TrialState.COMPLETE,))
    if len(complete) > 3 and len(study.best_params) > 1:
        functions['contour'] = plots.plot_contour
        functions['importance'] = lambda study: plots.plot_param_importances(
            study, evaluator=optuna.importance.PedAnovaImportanceEvaluator()
        )
    paths = []
    many = len(study.best_params)
    sizes = dict(slices=(5 * many, 5), contour=(5 * many, 4 * many))
    for name, function in functions.items():
        function(study)
        path, figure = folder / f'{name}.png', plt.gcf()
        for axes in figure.axes:  # of loss_weight; by default its labels lie over one another
            if axes.get_xscale() == 'log':
                axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
                axes.xaxis.set_major_formatter('{x:g}')
                axes.xaxis.set_minor_formatter(NullFormatter())
        if name in sizes:  # Optuna's own size is for one panel
            figure.set_size_inches(*sizes[name])
        write_png(path, figure, dpi=90, bbox_inches='tight')
        plt.close('all')
        paths.append(path)
    return paths
