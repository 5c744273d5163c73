"""What a user may get wrong ends in an error that names it, or in a skip that is counted."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmdet.registry import DATASETS
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.runner import Runner

import mmdet_yolo2fl  # noqa: F401

CONFIGS = Path(__file__).parents[1] / 'configs'
SIZE = 64


def small_config(folder, boxes=([8, 8, 30, 30],), category=1, categories=('a', 'b')):
    """configs/bccd/yolov2_tiny_fl.py, very narrow, on two images made here in COCO format."""
    init_default_scope('mmdet')
    images, annotations = [], []
    for number in range(2):
        image = np.random.default_rng(number).integers(0, 256, (SIZE, SIZE, 3), np.uint8)
        cv2.imwrite(str(folder / f'{number}.png'), image)
        images.append(dict(id=number, file_name=f'{number}.png', width=SIZE, height=SIZE))
        for box in boxes:
            annotations.append(
                dict(
                    id=len(annotations) + 1,
                    image_id=number,
                    category_id=category,
                    bbox=box,
                    area=box[2] * box[3],
                    iscrowd=0,
                )
            )
    content = dict(images=images, annotations=annotations)
    content['categories'] = [dict(id=i + 1, name=name) for i, name in enumerate(categories)]
    (folder / 'annotations.json').write_text(json.dumps(content))

    cfg = Config.fromfile(CONFIGS / 'bccd' / 'yolov2_tiny_fl.py')
    cfg.model.backbone.widen_factor = 0.05
    cfg.model.bbox_head.update(num_classes=len(categories), in_channels=51, feat_channels=8)
    cfg.model.data_preprocessor.batch_augments = None
    dataset = dict(
        type='CocoDataset',
        data_root=str(folder),
        ann_file='annotations.json',
        data_prefix=dict(img=''),
        metainfo=dict(classes=categories),
        pipeline=[
            dict(type='CheckedLoadImageFromFile'),
            dict(type='LoadAnnotations', with_bbox=True),
            dict(type='PackDetInputs'),
        ],
    )
    cfg.train_dataloader = dict(
        batch_size=2,
        num_workers=0,
        sampler=dict(type='DefaultSampler', shuffle=False),
        dataset=dataset,
    )
    for key in ('val', 'test'):
        cfg[f'{key}_dataloader'] = cfg[f'{key}_evaluator'] = cfg[f'{key}_cfg'] = None
    cfg.train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=1)
    cfg.param_scheduler = None
    cfg.default_hooks.checkpoint.pop('save_best')
    cfg.work_dir = str(folder / 'work')
    return cfg


def train(cfg):
    runner = Runner.from_cfg(cfg)
    runner.train()
    return runner


def logged(runner, key):
    return runner.message_hub.get_scalar(f'train/{key}').current()


def test_a_good_set_trains(tmp_path):
    runner = train(small_config(tmp_path))
    assert logged(runner, 'num_pos') == 2 and logged(runner, 'num_skipped') == 0


def test_a_missing_annotation_file_is_named(tmp_path):
    cfg = small_config(tmp_path)
    cfg.train_dataloader.dataset.ann_file = 'nowhere.json'
    with pytest.raises(FileNotFoundError, match='nowhere.json'):
        train(cfg)


@pytest.mark.parametrize('content', [b'', b'no image', None])
def test_an_unreadable_image_is_named(tmp_path, content):
    cfg = small_config(tmp_path)
    image = tmp_path / '1.png'
    if content is None:
        image.unlink()
    else:
        image.write_bytes(content)
    with pytest.raises((OSError, ValueError), match=r'1\.png'):
        train(cfg)


def test_more_classes_in_the_data_than_in_the_head(tmp_path):
    cfg = small_config(tmp_path, categories=('a', 'b', 'c'), category=3)
    cfg.model.bbox_head.num_classes = 2
    with pytest.raises(AssertionError, match=r'num_classes.*\(2\).*does not matches.*\(?3'):
        train(cfg)
    cfg.custom_hooks = [hook for hook in cfg.custom_hooks if hook.type != 'NumClassCheckHook']
    with pytest.raises(ValueError, match=r'labels must lie in 0\.\.1, got 2\.\.2'):
        train(cfg)


def test_boxes_without_area_or_outside_are_skipped_and_counted(tmp_path):
    # MMDetection drops boxes without area or outside the image when it reads COCO's format; what
    # the augmentation moves out of the image, or another format lets through, the head counts.
    boxes = ([8, 8, 30, 30], [20, 20, 0, 10], [200, 5, 10, 10])
    runner = train(small_config(tmp_path, boxes=boxes))
    assert logged(runner, 'num_pos') == 2
    cfg = small_config(tmp_path, boxes=boxes)
    cfg.train_dataloader.dataset.type = 'Unfiltered'
    runner = train(cfg)
    assert logged(runner, 'num_pos') == 2 and logged(runner, 'num_skipped') == 4
    assert all(p.isfinite().all() for p in runner.model.parameters())


@DATASETS.register_module()
class Unfiltered(DATASETS.get('CocoDataset')):
    """Keeps every box, as a careless data set would."""

    def parse_data_info(self, raw):
        info = super().parse_data_info(raw)
        info['instances'] = [
            dict(
                bbox=[x, y, x + w, y + h],
                bbox_label=self.cat2label[annotation['category_id']],
                ignore_flag=0,
            )
            for annotation in raw['raw_ann_info']
            for x, y, w, h in [annotation['bbox']]
        ]
        return info


def test_images_without_any_box_train(tmp_path):
    runner = train(small_config(tmp_path, boxes=()))
    assert logged(runner, 'num_pos') == 0 and logged(runner, 'loss_xy') == 0


def test_anchors_in_pixels_are_refused(tmp_path):
    cfg = small_config(tmp_path)
    cfg.model.bbox_head.anchor_generator.anchors = [(116, 90), (30, 61)]
    with pytest.raises(ValueError, match='in cells, not pixels'):
        train(cfg)


def test_an_image_size_that_does_not_fit_the_stride_is_padded(tmp_path):
    cfg = small_config(tmp_path)
    resize = dict(type='Resize', scale=(70, 50), keep_ratio=False)
    cfg.train_dataloader.dataset.pipeline.insert(2, resize)
    runner = train(cfg)
    assert logged(runner, 'num_pos') == 2
    assert torch.isfinite(torch.tensor(logged(runner, 'loss')))
