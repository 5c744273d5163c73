"""Many trainings with the same budget, several seeds each, and what their differences mean.

A study is a Python file of MMEngine's kind:

    config = '../configs/study/bccd.py'   # beside the file; every row starts from it
    seeds = [0, 1, 2]
    baseline = 'cross entropy'            # the row that the others are compared with
    rows = {                              # names that begin with _ are the file's own
        'cross entropy': dict(model=dict(bbox_head=dict(...))),   # what to change in the config
        'RetinaNet': dict(config='../configs/baselines/retinanet.py', seeds=[0], ...),
    }
    budget = dict(images=12300)           # or dict(minutes=5); without it, the configs' own epochs

A study of what happens at test time (NMS, other sizes, flips) trains nothing:

    checkpoint = '../work_dirs/study/mine/focal/seed_{seed}/epoch_30.pth'   # or an address
    rows = {'plain': dict(), 'flips': dict(tta=True), 'soft NMS': dict(model=dict(test_cfg=...))}

Each row then evaluates that checkpoint on the config's test set; `tta` is that of `tools/test.py`.
A row may have a `checkpoint` of its own, beside rows that are trained if the config's sets for
validation and test are the same.

Every run has a folder of its own, with its whole config; one that was interrupted goes on from
its last checkpoint, one that is complete is not repeated. Nor is one that stands in a table with
the same config: the tables can be kept where the folders are not.
"""

import copy
import functools
import hashlib
import itertools
import json
import math
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.hooks import Hook
from mmengine.optim import AmpOptimWrapper, OptimWrapper
from mmengine.runner import Runner

from .average_precision import ap_by_class
from .checkpoints import (
    download_name,
    latest_whole_checkpoint,
    load_only_weights,
    verify_checkpoint,
    verify_initial_checkpoints,
)
from .config_parts import READ, begin_anew, leaves, type_name
from .datasets.annotation_check import check_annotations
from .detector import check_fit
from .engine import work_dir_lock
from .evaluators import coco_files, evaluators, is_coco
from .measure import machine
from .scalars import is_metric, logged_scalars
from .study_budget import within_budget
from .study_tables import averages
from .test_time_augmentation import use_tta
from .whole_files import write_text

DETECTIONS = 'detections'
# What a run leaves in its folder, beside the text of its logs.
OF_A_RUN = (
    *('*.pth', 'last_checkpoint', 'epochs', 'minutes', 'result.json', f'{DETECTIONS}.*'),
    '*/vis_data/scalars.json',
)
# Of a row, beside what it changes in the config.
KEYS = ('config', 'seeds', 'checkpoint', 'tta')


@dataclass
class Run:
    """One training, or one evaluation.

    Attributes:
        row (str): What varies.
        seed (int): Of ``randomness``.
        config (Config): Everything, before the budget.
        folder (Path): Its work directory.
        budget (dict): ``images`` or ``minutes``, or empty.
        checkpoint (str): Relative to ``study_file``, or an address; it is evaluated, and nothing
            is trained. Empty for a training.
        study_file (Path): Where it stands.
    """

    row: str
    seed: int
    config: Config
    folder: Path
    budget: dict
    checkpoint: str
    study_file: Path

    @property
    def split(self) -> str:
        """On which of its data sets it is evaluated."""
        return 'test' if self.checkpoint else 'val'

    @property
    def checkpoint_file(self) -> Path | None:
        """What is evaluated, if it lies here; None for a training."""
        if not self.checkpoint or '://' in self.checkpoint:
            return None
        return self.study_file.parent / Path(self.checkpoint).expanduser()

    @property
    def result(self) -> dict | None:
        """What it has reached, or None if it is not complete or was another config's."""
        result = self._written
        return None if result is None or self.is_of_other_weights(result) else result

    @property
    def stale(self) -> bool:
        """Whether its checkpoint is not the one any more that was evaluated."""
        result = self._written
        return result is not None and self.is_of_other_weights(result)

    @property
    def _written(self) -> dict | None:
        file = self.folder / 'result.json'
        if not file.is_file():
            return None
        result = json.loads(file.read_text(encoding='utf-8'))
        return result if result['config_hash'] == self.hash else None

    @property
    def former(self) -> list[Path]:
        """The files in its folder that are of another config."""
        stamp = self.folder / 'config_hash'
        if stamp.is_file() and stamp.read_text() == self.hash:
            return []
        return [file for pattern in OF_A_RUN for file in self.folder.glob(pattern)]

    @property
    def aside(self) -> Path:
        """Where these will go, a folder deeper, where nobody looks for those of this run."""
        stamp = self.folder / 'config_hash'
        name = f'before_{stamp.read_text() if stamp.is_file() else "unknown"}'
        names = (f'{name}.{number}' for number in itertools.count(2))
        return next(
            place
            for place in map(self.folder.joinpath, itertools.chain([name], names))
            if not place.exists()
        )

    def is_of_other_weights(self, result: dict) -> bool:
        """Whether a result is of a checkpoint that has been replaced since."""
        known, file = result.get('checkpoint_digest'), self.checkpoint_file
        return bool(known and file and file.is_file() and known != digest(file))

    @property
    def hash(self) -> str:
        """Of the config and the budget: a changed study repeats what it concerns."""
        config = self.config.to_dict()
        # The folder may move.
        config.pop('work_dir')
        for one in evaluators(config, 'val', 'test'):
            one.pop('outfile_prefix', None)
        about = [config, self.budget, *([self.checkpoint] if self.checkpoint else [])]
        text = json.dumps(about, sort_keys=True, default=str)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


@dataclass
class Study:
    """A study file, read.

    Attributes:
        name (str): Of the file.
        baseline (str | None): A row.
        runs (list[Run]): All first seeds, then all second ones, and so on: a study that is
            broken off has something of every row.
    """

    name: str
    baseline: str | None
    runs: list[Run]


def load_study(file: Path, out: Path, options: dict | None = None) -> Study:
    """Read a study file.

    Args:
        file (Path): The file.
        out (Path): Folder for the runs.
        options (dict, optional): Overrides for every config, dotted names.

    Raises:
        ValueError: If the file lacks something or contradicts itself; it names what.
    """
    spec = Config.fromfile(file).to_dict()
    spec = {key: value for key, value in spec.items() if not key.startswith('_')}
    rows = spec.get('rows')
    if not rows or not isinstance(rows, dict):
        raise ValueError(f'{file}: `rows` must be a dict of names and what each changes')
    unknown = set(spec) - {'config', 'seeds', 'checkpoint', 'baseline', 'rows', 'budget'}
    if unknown:
        raise ValueError(f'{file}: unknown {sorted(unknown)}')
    baseline, budget = spec.get('baseline'), spec.get('budget') or {}
    if baseline is not None and baseline not in rows:
        raise ValueError(f'{file}: the baseline {baseline!r} is none of the rows {list(rows)}')
    if len(budget) > 1 or set(budget) - {'images', 'minutes'}:
        raise ValueError(f'{file}: the budget is `images` or `minutes`, got {budget}')
    numbered, read = [], functools.cache(Config.fromfile)
    folders: dict[str, str] = {}  # some file systems know no capitals
    for position, (row, changes) in enumerate(rows.items()):
        if not isinstance(changes, dict):
            raise ValueError(f'{file}: the row {row!r} must be a dict of changes, got {changes!r}')
        seeds = changes.get('seeds') or spec.get('seeds') or [0]
        if not isinstance(seeds, (list, tuple)):
            raise ValueError(f'{file}: the row {row!r}: seeds must be a list, got {seeds!r}')
        if not all(type(seed) is int for seed in seeds):
            raise ValueError(f'{file}: the row {row!r}: seeds must be whole numbers, got {seeds!r}')
        source = changes.get('config') or spec.get('config')
        if source is None:
            raise ValueError(f'{file}: neither the study nor the row {row!r} has a `config`')
        source = Path(file).parent / source
        if not source.is_file():
            raise ValueError(f'{file}: the row {row!r} has no config file {source}')
        overrides = {key: value for key, value in changes.items() if key not in KEYS}
        for name in {*overrides, *(key.split('.')[0] for key in options or ())} - READ:
            # MMEngine would add it, or nobody would read it, and train the same as before.
            reason = (
                f'a variable of {source}, of which its parts have been made already: change these'
                if name in read(source)
                else f'which neither {source} nor MMEngine knows'
            )
            raise ValueError(f'{file}: the row {row!r}, or --cfg-options, sets {name!r}, {reason}')
        checkpoint = changes.get('checkpoint') or spec.get('checkpoint') or ''
        if checkpoint and '{seed}' not in checkpoint:
            # The same weights: more seeds would be no more trainings.
            if len(changes.get('seeds') or ()) > 1:
                raise ValueError(
                    f'{file}: the row {row!r} has several seeds and one checkpoint: write {{seed}} '
                    'into its name, or give one seed'
                )
            seeds = seeds[:1]
        if not checkpoint and 'tta' in changes:
            raise ValueError(f'{file}: the row {row!r} has `tta`, but no `checkpoint` to evaluate')
        if len(set(seeds)) < len(seeds):
            raise ValueError(f'{file}: the row {row!r} has a seed twice: {list(seeds)}')
        for number, seed in enumerate(seeds):
            folder = Path(out, folder_name(row), f'seed_{seed}')
            place = str(folder).lower()
            if place in folders or not folder_name(row):
                raise ValueError(
                    f'{file}: the row {row!r}, seed {seed}, would have the folder {folder}'
                    + (f' of the row {folders[place]!r}' if place in folders else '')
                    + ': give it another name'
                )
            folders[place] = row
            try:
                config = _run_config(copy.deepcopy(read(source)), overrides, options, seed, folder)
            except (AttributeError, KeyError, TypeError) as error:
                raise ValueError(
                    f'{file}: the row {row!r} changes what {source} does not have, or that config '
                    f'lacks something: {type(error).__name__}: {error}'
                ) from error
            if budget and not checkpoint and 'max_epochs' not in (config.get('train_cfg') or {}):
                raise ValueError(
                    f'{file}: a budget is counted in epochs, and the config of the row {row!r} '
                    'counts iterations: give it a train_cfg with max_epochs'
                )
            split = 'test' if checkpoint else 'val'
            for part in (f'{split}_dataloader', f'{split}_evaluator'):
                if not config.get(part):
                    raise ValueError(
                        f'{file}: the config of the row {row!r} cannot be evaluated, it has no '
                        f'{part}'
                    )
            if changes.get('tta'):
                use_tta(config)
            of_seed = checkpoint.replace('{seed}', str(seed))
            run = Run(row, seed, config, folder, budget, of_seed, Path(file))
            numbered.append((number, position, run))
    numbered.sort(key=lambda item: item[:2])
    runs = [run for *_, run in numbered]
    _check_one_set(file, runs)
    _check_downloads(file, runs)
    return Study(Path(file).stem, baseline, runs)


def _check_one_set(file: Path, runs: list[Run]) -> None:
    """All in one table, trained rows and checkpoints: on one set of images, by one metric."""
    first = runs[0]
    for run in runs:
        if _images_of(run) != _images_of(first):
            raise ValueError(
                f'{file}: the row {first.row!r} is evaluated on the {first.split} set of its '
                f'config, and the row {run.row!r} on the {run.split} set of its own, which is '
                f'another one: give the row the same ({run.split}_dataloader and '
                f'{run.split}_evaluator), or a study of its own'
            )
        kinds = [_metrics_of(one) for one in (first, run)]
        if kinds[0] != kinds[1]:
            raise ValueError(
                f'{file}: the row {first.row!r} is evaluated by {kinds[0]}, and the row '
                f'{run.row!r} by {kinds[1]}, whose AP is another one: give the row the same '
                f'metrics ({run.split}_evaluator), or a study of its own'
            )


def _check_downloads(file: Path, runs: list[Run]) -> None:
    """MMEngine keeps downloads by their last names alone."""
    known: dict[str, str] = {}
    sources = [source for run in runs for source in (run.checkpoint, run.config.get('load_from'))]
    for address in (source for source in sources if '://' in str(source)):
        name = download_name(address)
        if known.setdefault(name, address) != address:
            raise ValueError(
                f'{file}: {known[name]} and {address} would be downloaded to one file {name}: '
                'download them yourself, and give their paths'
            )


def _images_of(run: Run) -> list[dict]:
    found = leaves(run.config[f'{run.split}_dataloader'].dataset)
    # What does not change which images these are, in a data set for tests.
    rest = 'pipeline', 'backend_args', 'filter_cfg'
    return [{key: value for key, value in one.items() if key not in rest} for one in found]


def _metrics_of(run: Run) -> list[str]:
    found = evaluators(run.config, run.split)
    # VOC's area or 11 points.
    return [' '.join(filter(None, (type_name(one), one.get('eval_mode')))) for one in found]


def folder_name(row: str) -> str:
    """Of the runs of a row."""
    return re.sub(r'\W+', '_', row).strip('_')


def _run_config(config, overrides, options, seed, folder) -> Config:
    begin_anew(config)
    # Copied: merging takes `_delete_` out, which the next seed needs again.
    config.merge_from_dict(copy.deepcopy(overrides))
    config.merge_from_dict(copy.deepcopy(options or {}))
    _drop_delete(config._cfg_dict)
    config.work_dir = str(folder)
    config.randomness = {**(config.get('randomness') or {}), 'seed': seed}
    config.resume = True
    # By which AP50 of each class is found.
    for evaluator in evaluators(config, 'val', 'test'):
        if is_coco(evaluator):
            evaluator['outfile_prefix'] = str(folder / DETECTIONS)
    return config


def _drop_delete(part) -> None:
    """MMEngine leaves ``_delete_`` where there was nothing to delete."""
    if isinstance(part, dict):
        part.pop('_delete_', None)
        part = list(part.values())
    if isinstance(part, (list, tuple)):
        for value in part:
            _drop_delete(value)


def digest(file: Path) -> str:
    """SHA-256 of a file, which is read again only when it has changed."""
    state = file.stat()
    return _digest(file, state.st_mtime_ns, state.st_size)


@functools.lru_cache(1000)
def _digest(file: Path, *_) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def carry_out(run: Run) -> dict:
    """Train a run to its end, or evaluate its checkpoint, and write ``result.json``.

    Returns:
        dict: ``row``, ``seed``, ``metrics`` of the last evaluation, ``curve`` (epoch and metrics
        of every evaluation), ``minutes``, ``images``, ``parameters``, ``machine``, ``precision``,
        ``config_hash``.

    Raises:
        BlockingIOError: If another process has this run.
        FileNotFoundError, ValueError: If the checkpoint is missing, unsafe, or another detector's.
    """
    with work_dir_lock(run.folder):
        load_only_weights()
        _set_aside_other_configs(run)
        result = _evaluate(run) if run.checkpoint else _train(run)
        by = evaluators(run.config, run.split)
        result['metrics'] |= averages(result['metrics'], by)
        for point in (result['metrics'], *result['curve']):
            point.update({name: math.nan for name in point if _is_absent(name, point[name])})
        result |= dict(
            row=run.row, seed=run.seed, machine=machine(get_device()), config_hash=run.hash
        )
        write_text(run.folder / 'result.json', json.dumps(result, indent=1))
        return result


def _is_absent(name: str, value: float) -> bool:
    """pycocotools says -1 where there is nothing to find, as of a size that no object has."""
    return name.startswith('coco/') and value == -1


def _set_aside_other_configs(run: Run) -> None:
    """What another config left in the folder would be continued, or taken for this one's."""
    aside = run.aside
    for old in run.former:
        new = aside / old.relative_to(run.folder)
        new.parent.mkdir(parents=True, exist_ok=True)
        old.replace(new)
    write_text(run.folder / 'config_hash', run.hash)


def _by_class(run: Run, split: str, classes: Sequence[str]) -> dict[str, float]:
    """AP50 and AP, of all and of every class, of the detections that CocoMetric wrote, if any."""
    prefix, metrics = run.folder / DETECTIONS, {}
    # Of a teacher and its student that file is the student's.
    of_student = split == 'val' and _chosen(run.config)
    if of_student or not Path(f'{prefix}.bbox.json').is_file():
        return {}
    truths = next(iter(coco_files(run.config, split)), None)
    for name, (ap50, ap) in ap_by_class(prefix, truths, classes).items():
        suffix = '' if name == 'all' else f' {name}'
        metrics |= {f'AP50{suffix}': float(ap50), f'AP{suffix}': float(ap)}
    return metrics


def _chosen(config: Config) -> str:
    """'teacher' or 'student' in semi-supervised training, where MMDetection evaluates both."""
    if type_name(config.get('val_cfg') or {}) != 'TeacherStudentValLoop':
        return ''
    return (config.model.get('semi_test_cfg') or {}).get('predict_on', 'teacher')


def _with_chosen(metrics: dict, config: Config) -> dict:
    """The metrics of the one that predicts under their usual names, too."""
    start = f'{_chosen(config)}/'
    own = {name.removeprefix(start): v for name, v in metrics.items() if name.startswith(start)}
    return metrics | own


def _evaluate(run: Run) -> dict:
    config = copy.deepcopy(run.config)
    config.resume = False
    config.load_from = str(verify_checkpoint(run.checkpoint_file or run.checkpoint))
    by_coco = coco_files(config, 'test')
    check_annotations(config.test_dataloader.dataset, sizes=True, by_coco=by_coco)
    runner = Runner.from_cfg(config)
    check_fit(runner.model, config.load_from)
    start = time.monotonic()
    metrics = runner.test()
    classes = runner.test_dataloader.dataset.metainfo['classes']
    return dict(
        metrics=metrics | _by_class(run, 'test', classes),
        curve=[],
        minutes=(time.monotonic() - start) / 60,
        images=len(runner.test_dataloader.dataset),
        parameters=sum(weight.numel() for weight in runner.model.parameters()),
        precision='float16' if (config.get('test_cfg') or {}).get('fp16') else 'float32',
        checkpoint_digest=digest(Path(config.load_from)),
    )


def _train(run: Run) -> dict:
    by_epoch = 'max_epochs' in run.config.train_cfg
    config = within_budget(copy.deepcopy(run.config), run.budget, run.folder)
    verify_initial_checkpoints(config.model)
    for split in ('train', 'val'):
        dataset = config[f'{split}_dataloader'].dataset
        check_annotations(dataset, sizes=split == 'val', by_coco=coco_files(config, split))
    latest = latest_whole_checkpoint(run.folder)
    # Without a checkpoint of its own it starts from the config's `load_from`, if there is one.
    config.resume = latest is not None
    if latest is not None:
        config.load_from = str(latest)
    elif config.get('load_from'):
        config.load_from = str(verify_checkpoint(config.load_from))
    if not by_epoch:  # else MMEngine's log has all evaluations at step 0
        config.default_hooks.logger.log_metric_by_epoch = False
    runner = Runner.from_cfg(config)
    if config.get('load_from') and not config.resume:
        check_fit(runner.model, config.load_from, whole=False)
    clock = _Clock(run.folder / 'minutes')
    runner.register_hook(clock)
    try:
        runner.train()
    finally:
        minutes = clock.write()
    curve = [_with_chosen(point, config) for point in learning_curve(run.folder)]
    if curve and curve[-1]['epoch'] == (runner.epoch if by_epoch else runner.iter):
        metrics = {key: value for key, value in curve[-1].items() if key != 'epoch'}
    else:  # it was killed between the last evaluation and this point
        runner.val_loop.run()
        metrics = _with_chosen(clock.metrics, config)
        curve = [_with_chosen(point, config) for point in learning_curve(run.folder)]
    classes = runner.val_dataloader.dataset.metainfo['classes']
    return dict(
        metrics=metrics | _by_class(run, 'val', classes),
        curve=curve,
        minutes=minutes,
        # Not what it was to see: a hook may have stopped it.
        images=runner.epoch * len(runner.train_dataloader.dataset)
        if by_epoch
        else runner.iter * config.train_dataloader.batch_size,
        parameters=sum(weight.numel() for weight in runner.model.parameters()),
        precision=precision(runner.optim_wrapper),
    )


class _Clock(Hook):
    """Counts the minutes of a run, also of one that is killed and resumed.

    And it has the metrics of the last evaluation, which not every loop returns.
    """

    def __init__(self, file: Path) -> None:
        self.file, self.start, self.metrics = file, time.monotonic(), {}
        self.earlier = float(file.read_text()) if file.is_file() else 0.0

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        self.write()

    def before_val_epoch(self, runner: Runner) -> None:
        # Else MMEngine logs the former figures again where a metric finds nothing to say.
        logged = runner.message_hub.log_scalars
        for name in [name for name in logged if re.match('val/.*/', name)]:
            del logged[name]

    def after_val_epoch(self, runner: Runner, metrics: dict | None = None) -> None:
        self.metrics = metrics or {}

    def write(self) -> float:
        """The minutes up to now."""
        minutes = self.earlier + (time.monotonic() - self.start) / 60
        write_text(self.file, str(minutes))
        return minutes


def precision(wrapper: OptimWrapper) -> str:
    """What the forward pass of training computes in, such as 'bfloat16'."""
    if not isinstance(wrapper, AmpOptimWrapper) or not getattr(wrapper, '_autocast', True):
        return 'float32'
    # Without a dtype, autocast takes the device's: float16.
    return str(wrapper.cast_dtype or torch.float16).removeprefix('torch.')


def learning_curve(folder: Path) -> list[dict]:
    """Epoch (or iteration) and metrics of every evaluation that MMEngine logged, the latest of
    each epoch."""
    found = {}
    for row in logged_scalars(folder):
        values = {key: value for key, value in row.items() if is_metric(key)}
        if values:
            found[row['step']] = dict(epoch=row['step'], **values)
    return [found[epoch] for epoch in sorted(found)]
