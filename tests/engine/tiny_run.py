"""A training of seconds: 8 made-up images, 4 iterations an epoch, on a narrow tiny YOLOv2."""

import os
import random
import signal
from pathlib import Path

import numpy as np
import torch
from mmdet.registry import DATASETS, HOOKS, METRICS
from mmdet.structures import DetDataSample
from mmengine.config import Config
from mmengine.evaluator import BaseMetric
from mmengine.hooks import Hook
from mmengine.runner import Runner
from mmengine.structures import InstanceData
from torch.utils.data import Dataset

import mmdet_yolo2fl  # noqa: F401

SIZE = 64
NUM_IMAGES = 8
ITERS_PER_EPOCH = 4


@DATASETS.register_module()
class RandomBoxes(Dataset):
    """Noise with a box more on each image, from none on the first to 7 on the last.

    Args:
        augment (bool): Draw from the generators of Python, NumPy and PyTorch alike.
    """

    metainfo = dict(classes=('a', 'b'))

    def __init__(self, augment: bool = False) -> None:
        self.augment = augment

    def __len__(self) -> int:
        return NUM_IMAGES

    def __getitem__(self, index: int) -> dict:
        rng = np.random.default_rng(index)
        image = rng.integers(0, 256, (3, SIZE, SIZE)).astype(np.float32)
        corner = rng.uniform(0, 32, (index, 2))
        boxes = np.hstack([corner, corner + rng.uniform(8, 32, corner.shape)])
        if self.augment:
            image = image * random.random() + 30 * np.random.rand()
            image = image + torch.rand(3, 1, 1).numpy()
        sample = DetDataSample(
            metainfo=dict(
                img_id=index,
                img_path=f'image_{index}.png',
                ori_shape=(SIZE, SIZE),
                img_shape=(SIZE, SIZE),
                scale_factor=(1.0, 1.0),
            )
        )
        sample.gt_instances = InstanceData(
            bboxes=torch.tensor(boxes, dtype=torch.float32),
            labels=torch.tensor(rng.integers(0, 2, len(boxes))),
        )
        sample.ignored_instances = InstanceData(bboxes=torch.zeros(0, 4), labels=torch.zeros(0))
        return dict(inputs=torch.from_numpy(image.astype(np.uint8)), data_samples=sample)


@METRICS.register_module()
class ScriptedMetric(BaseMetric):
    """Scores given beforehand, one per evaluation; then the last again."""

    def __init__(self, scores: list[float]) -> None:
        super().__init__()
        self.scores = list(scores)

    def process(self, data_batch, data_samples) -> None:
        self.results.append(len(data_samples))

    def compute_metrics(self, results: list) -> dict:
        score = self.scores.pop(0) if len(self.scores) > 1 else self.scores[0]
        return dict(score=score, cost=score)


@HOOKS.register_module()
class KillHook(Hook):
    """Kill the process without warning after an iteration (counted from 0)."""

    def __init__(self, at_iter: int) -> None:
        self.at_iter = at_iter

    def after_train_iter(self, runner, *args, **kwargs) -> None:
        if runner.iter == self.at_iter:
            os.kill(os.getpid(), signal.SIGKILL)


class InterruptedRunError(Exception):
    pass


@HOOKS.register_module()
class InterruptHook(Hook):
    """Raise instead: leaves the same files as a kill, and the test process alive."""

    def __init__(self, at_iter: int) -> None:
        self.at_iter = at_iter

    def after_train_iter(self, runner, *args, **kwargs) -> None:
        if runner.iter == self.at_iter:
            raise InterruptedRunError


def model_cfg(resize: bool = False) -> dict:
    augments = [dict(type='BatchSyncRandomResize', random_size_range=(64, 160), interval=3)]
    return dict(
        type='SingleStageDetector',
        data_preprocessor=dict(
            type='DetDataPreprocessor',
            mean=[0.0] * 3,
            std=[255.0] * 3,
            bgr_to_rgb=True,
            batch_augments=augments if resize else None,
        ),
        backbone=dict(type='DarknetTiny', widen_factor=0.125),
        bbox_head=dict(
            type='YOLOV2Head',
            num_classes=2,
            in_channels=128,
            feat_channels=16,
            anchor_generator=dict(type='YOLOV2AnchorGenerator', anchors=[(0.4, 0.5), (1.0, 0.9)]),
        ),
        test_cfg=dict(score_thr=0.3, nms=dict(type='nms', iou_threshold=0.45), max_per_img=10),
    )


def config(
    work_dir: Path,
    epochs: int = 3,
    augment: bool = False,
    resize: bool = False,
    loader: dict | None = None,
    optim_wrapper: dict | None = None,
    checkpoint: dict | None = None,
    hooks: tuple = (),
    scores: tuple | None = None,
    resume: bool = False,
) -> Config:
    """The run's config; ``scores`` switches validation on after each epoch."""
    optimizer = dict(type='SGD', lr=0.01, momentum=0.9)
    cfg = dict(
        default_scope='mmdet',
        # Runs begun in the same second would share MMEngine's message hub.
        experiment_name=f'{work_dir.name}_{random.SystemRandom().getrandbits(64)}',
        work_dir=str(work_dir),
        model=model_cfg(resize),
        train_dataloader=dict(
            batch_size=2,
            sampler=dict(type='DefaultSampler', shuffle=True),
            dataset=dict(type='RandomBoxes', augment=augment),
            **(loader or dict(num_workers=0)),
        ),
        train_cfg=dict(type='EpochBasedTrainLoop', max_epochs=epochs),
        optim_wrapper=dict(type='OptimWrapper', optimizer=optimizer) | (optim_wrapper or {}),
        param_scheduler=[dict(type='LinearLR', start_factor=0.1, by_epoch=False, end=6)],
        default_hooks=dict(
            checkpoint=dict(type='AtomicCheckpointHook', interval=1) | (checkpoint or {}),
            logger=dict(type='LoggerHook', interval=2),
        ),
        custom_hooks=[dict(type='RandomStateHook'), dict(type='NonFiniteLossHook'), *hooks],
        randomness=dict(seed=3),
        log_level='WARNING',
        resume=resume,
    )
    if scores is not None:
        cfg.update(
            val_dataloader=dict(
                batch_size=2,
                num_workers=0,
                sampler=dict(type='DefaultSampler', shuffle=False),
                dataset=dict(type='RandomBoxes'),
            ),
            val_cfg=dict(type='ValLoop'),
            val_evaluator=dict(type='ScriptedMetric', scores=list(scores)),
        )
    return Config(cfg)


def train(work_dir: Path, watch: Hook | None = None, **kwargs) -> Runner:
    """Train to the end; ``watch`` is a hook that sees the run."""
    runner = Runner.from_cfg(config(work_dir, **kwargs))
    if watch is not None:
        runner.register_hook(watch)
    runner.train()
    return runner


def assert_same_weights(first: torch.nn.Module, second: torch.nn.Module) -> None:
    second = second.state_dict()
    for name, value in first.state_dict().items():
        assert torch.equal(value, second[name]), name
