"""Detectors of grey images, given frames and arrays in colour."""

import numpy as np
import pytest
import torch
from mmcv.transforms import LoadImageFromFile
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.registry import init_default_scope

from mmdet_yolo2fl.inference import load_inferencer
from tests.tools.conftest import ROOT

CONFIG = """
_base_ = '{root}/configs/yolov2_fl.py'
model = dict(
    data_preprocessor=dict(mean=[0.0], std=[255.0], bgr_to_rgb=False),
    backbone=dict(widen_factor=0.0625, in_channels=1),
    neck=dict(in_channels=(32, 64), out_channels=16, passthrough_channels=4),
    bbox_head=dict(in_channels=32, feat_channels=16),
    test_cfg=dict(score_thr=0.0),
)
test_pipeline = [
    dict(type='LoadImageFromFile', color_type='grayscale'),
    dict(type='Resize', scale=(96, 64), keep_ratio=False),
    dict(type='PackDetInputs', meta_keys=('ori_shape', 'img_shape', 'scale_factor')),
]
_images = dict(type='TinyTrafficDataset', split='val', test_mode=True, num_images=2)
test_dataloader = dict(
    dataset=dict(
        _delete_=True,
        type='RepeatDataset',
        times=1,
        dataset=dict(pipeline=test_pipeline, **_images),
    )
)
"""


@pytest.fixture(params=['repeated', 'two parts', 'pure Python'])
def grey(tmp_path, request):
    file, checkpoint = tmp_path / 'grey.py', tmp_path / 'grey.pth'
    file.write_text(CONFIG.format(root=ROOT))
    cfg = Config.fromfile(file)
    init_default_scope('mmdet')
    torch.manual_seed(0)
    torch.save(dict(state_dict=MODELS.build(cfg.model).state_dict()), checkpoint)
    if request.param == 'two parts':
        part = cfg.test_dataloader.dataset.dataset
        cfg.test_dataloader.dataset = dict(type='ConcatDataset', datasets=[part, part])
    if request.param == 'pure Python':
        cfg.test_dataloader.dataset.dataset.pipeline[0].type = LoadImageFromFile
    return load_inferencer(cfg, checkpoint, 'cpu')


def test_frames_in_colour_become_grey(grey):
    """Of a test set in a wrapper, too."""
    colour = np.random.default_rng(0).integers(0, 256, (64, 96, 3), np.uint8)
    weighed = (colour * np.array([0.114, 0.587, 0.299])).sum(2).astype(np.uint8)
    results = [
        grey(image, return_datasamples=True, no_save_vis=True)['predictions'][0].pred_instances
        for image in (colour, weighed, weighed[..., None])
    ]
    assert len(results[0]) > 10
    for result in results[1:]:
        torch.testing.assert_close(result.bboxes, results[0].bboxes)
        torch.testing.assert_close(result.scores, results[0].scores)
