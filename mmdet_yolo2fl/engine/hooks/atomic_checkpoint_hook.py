"""Checkpoints that survive a kill at any moment."""

import locale
import logging
from pathlib import Path

from mmdet.registry import HOOKS
from mmengine.dist import all_gather_object, is_main_process, master_only
from mmengine.fileio import LocalBackend, get_file_backend
from mmengine.hooks import CheckpointHook
from mmengine.logging import print_log
from mmengine.runner import Runner

from ...checkpoints import restore_seen
from ..atomic_backend import AtomicLocalBackend


@HOOKS.register_module()
class AtomicCheckpointHook(CheckpointHook):
    """MMEngine's ``CheckpointHook``, with the order of its steps made safe.

    MMEngine deletes the old file, then writes the new one in place: a kill in between loses
    both. Here the new file is written whole, then ``last_checkpoint`` is pointed at it, and
    only then the outdated file is deleted, of the best checkpoints too. At any moment
    ``last_checkpoint`` names a complete file, even with ``max_keep_ckpts=1``.
    ``save_best='auto'`` takes the first metric over all classes (``mAP``): MMEngine would take the
    first of all, with ``CocoMetric(classwise=True)`` the AP of the first class.

    Takes the arguments of ``CheckpointHook``. Where ``backend_args`` are given, or the
    checkpoints go to a remote store, that backend must see to whole files itself.
    """

    def before_train(self, runner: Runner) -> None:
        """Choose the backend that writes whole files."""
        given = self.backend_args is not None or self.file_client_args is not None
        if not given and type(get_file_backend(self.out_dir or runner.work_dir)) is LocalBackend:
            self.backend_args = dict(backend='atomic_local')
        super().before_train(runner)
        places = all_gather_object((runner.epoch, runner.iter))
        if len(set(places)) > 1:
            raise RuntimeError(
                f'the processes go on from different (epoch, iteration): {places}. They need one '
                'work directory, or each a copy of its checkpoints and last_checkpoint'
            )

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Where an average of the weights was kept, go on with the images seen until then."""
        restore_seen(checkpoint)

    def _save_checkpoint_with_step(self, runner: Runner, step: int, meta: dict) -> None:
        outdated = None
        if self.max_keep_ckpts > 0 and step not in self.keep_ckpt_ids:
            if len(self.keep_ckpt_ids) == self.max_keep_ckpts:
                outdated = self._path(self.keep_ckpt_ids[0])
            self.keep_ckpt_ids.append(step)  # pushes out the first if it is full
            runner.message_hub.update_info('keep_ckpt_ids', list(self.keep_ckpt_ids))
        self.last_ckpt = self._path(step)
        runner.message_hub.update_info('last_ckpt', self.last_ckpt)

        runner.save_checkpoint(
            self.out_dir,
            self.filename_tmpl.format(step),
            self.file_client_args,
            save_optimizer=self.save_optimizer,
            save_param_scheduler=self.save_param_scheduler,
            meta=meta,
            by_epoch=self.by_epoch,
            backend_args=self.backend_args,
            **self.args,
        )
        if is_main_process():
            pointer = Path(runner.work_dir, 'last_checkpoint')
            AtomicLocalBackend().put(_encoded(self.last_ckpt), pointer)
        if outdated is not None:
            self._remove(outdated)

    def _save_best_checkpoint(self, runner: Runner, metrics: dict) -> None:
        # The parent deletes the best checkpoints it knows of before it writes the new ones: so
        # it is told of none, and they are deleted here, afterwards.
        if not self.save_best:
            return
        if 'auto' in self.key_indicators:
            metrics = {**{key: metrics[key] for key in metrics if key.endswith('mAP')}, **metrics}
        missing = [key for key in self.key_indicators if key not in ('auto', *metrics)]
        if missing and metrics:
            known = {metric.prefix for metric in runner.val_loop.evaluator.metrics}
            for key in missing:
                _check_silent(key, metrics, known)
            metrics = {**dict.fromkeys(missing), **metrics}
        if len(self.key_indicators) == 1:
            former, self.best_ckpt_path = self.best_ckpt_path, None
            super()._save_best_checkpoint(runner, metrics)
            self.best_ckpt_path = self._replace(former, self.best_ckpt_path)
        else:
            former = self.best_ckpt_path_dict
            self.best_ckpt_path_dict = dict.fromkeys(former)
            super()._save_best_checkpoint(runner, metrics)
            for key, path in self.best_ckpt_path_dict.items():
                self.best_ckpt_path_dict[key] = self._replace(former[key], path)

    def _path(self, step: int) -> str:
        return self.file_backend.join_path(self.out_dir, self.filename_tmpl.format(step))

    def _replace(self, former: str | None, new: str | None) -> str | None:
        """The path that holds now, once the former one is deleted if there is a new one."""
        if new is None:
            return former
        if former not in (None, new):
            self._remove(former)
        return new

    @master_only
    def _remove(self, path: str) -> None:
        # A resumed checkpoint names what is outdated; it shall not name anything else.
        if Path(path).resolve().parent != Path(self.out_dir).resolve():
            return
        if self.file_backend.isfile(path):
            self.file_backend.remove(path)
        elif self.file_backend.isdir(path):  # DeepSpeed saves a folder
            self.file_backend.rmtree(path)


def _check_silent(key: str, metrics: dict, known: set) -> None:
    """Tell of a metric that says nothing this time, as CocoMetric where nothing has been found.

    Raises:
        KeyError: If there is no such metric.
    """
    group = key.rpartition('/')[0]
    speaks = any(name.rpartition('/')[0] == group for name in metrics)
    text = f'save_best={key!r} is not among the metrics {sorted(metrics)}'
    if speaks or group.rpartition('/')[2] not in known:
        raise KeyError(text)
    print_log(f'{text} this time', logger='current', level=logging.WARNING)


def _encoded(path: str) -> bytes:
    """In the encoding in which MMEngine reads ``last_checkpoint``: the machine's."""
    try:
        return path.encode(locale.getpreferredencoding(False))
    except UnicodeEncodeError:  # then MMEngine cannot read it; tools/train.py can
        return path.encode()
