import importlib.util
import json
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmdet.registry import MODELS
from mmdet.visualization import DetLocalVisualizer
from mmengine.config import Config
from mmengine.device import utils as device_utils
from mmengine.logging import MMLogger
from mmengine.registry import init_default_scope
from mmengine.visualization import Visualizer

ROOT = Path(__file__).parents[2]


@pytest.fixture
def tool():
    """The ``main`` of a tool, to be run in this process, which its settings do not outlive."""
    with tools() as load:
        yield load


@contextmanager
def tools():
    # MMDetection's hook draws with the visualizer made last, be it another tool's.
    visualizers = (Visualizer, DetLocalVisualizer)  # each class keeps its own
    for kind in visualizers:
        kind._instance_dict.clear()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv('TORCH_FORCE_WEIGHTS_ONLY_LOAD', '0')
        patch.setenv('LOCAL_RANK', '0')
        patch.setattr(device_utils, 'DEVICE', device_utils.DEVICE)
        yield load_tool
    for kind in visualizers:
        kind._instance_dict.clear()


def load_tool(name):
    spec = importlib.util.spec_from_file_location(f'tool_{name}', ROOT / f'tools/{name}.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.main


@pytest.fixture
def refused(capsys):
    """Runs a ``main`` that must end with a usage error; returns its last line."""

    def run(main, *args):
        MMLogger._instance_dict.clear()  # that of a former test writes to what is closed
        with pytest.raises(SystemExit) as stop:
            main([str(arg) for arg in args])
        assert stop.value.code == 2
        message = capsys.readouterr().err
        assert 'Traceback' not in message
        return message.strip().splitlines()[-1]

    return run


@pytest.fixture
def data_root(tmp_path):
    """Four images with a square each, as train.json and valid.json of a data set."""
    return write_data(tmp_path / 'data')


def write_data(root):
    root.mkdir()
    images, annotations = [], []
    for number in range(1, 5):
        image = np.full((60, 90, 3), 90, np.uint8)
        image[10:40, 20 + number : 50 + number] = (250, 40 * number, 0)
        cv2.imwrite(str(root / f'{number}.png'), image)
        images.append(dict(id=number, file_name=f'{number}.png', width=90, height=60))
        annotations.append(
            dict(
                id=number,
                image_id=number,
                category_id=1 + number % 2,
                bbox=[20 + number, 10, 30, 30],
                area=900,
                iscrowd=0,
            )
        )
    content = dict(
        images=images,
        annotations=annotations,
        categories=[dict(id=1, name='red'), dict(id=2, name='blue')],
    )
    for name in ('train', 'valid'):
        (root / f'{name}.json').write_text(json.dumps(content))
    return root


@pytest.fixture
def squares(tmp_path, data_root):
    """Config and checkpoint of a detector for ``data_root``; the weights alone, without names."""
    return write_squares(tmp_path, data_root)


# Nine convolutions in place of 22, which the exporters go through one by one.
TINY = """
model = dict(
    backbone=dict(_delete_=True, type='DarknetTiny', widen_factor=0.125), neck=None,
    bbox_head=dict(in_channels=128, feat_channels=32, num_classes=2, prior_prob=0.5),
    test_cfg=dict(score_thr=0.0, max_per_img=5))
"""


def write_squares(folder, data_root, tiny=False):
    path = folder / 'squares.py'
    path.write_text(
        f"""
_base_ = '{ROOT}/configs/yolov2_fl.py'
model = dict(
    backbone=dict(widen_factor=0.125),
    neck=dict(in_channels=(64, 128), out_channels=32, passthrough_channels=8),
    bbox_head=dict(in_channels=64, feat_channels=32, num_classes=2, prior_prob=0.5),
    test_cfg=dict(score_thr=0.0, max_per_img=5))
pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=(96, 64), keep_ratio=False),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(type='PackDetInputs',
         meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor')),
]
test_dataloader = dict(
    batch_size=2, num_workers=0, persistent_workers=False,
    dataset=dict(_delete_=True, type='CocoDataset', data_root='{data_root}',
                 data_prefix=dict(img=''), ann_file='valid.json', test_mode=True,
                 metainfo=dict(classes=('red', 'blue'), palette=[(255, 0, 0), (0, 0, 255)]),
                 pipeline=pipeline))
val_dataloader = test_dataloader
test_evaluator = dict(_delete_=True, type='CocoMetric', ann_file='{data_root}/valid.json')
val_evaluator = test_evaluator
"""
        + TINY * tiny
    )
    MMLogger._instance_dict.clear()  # the log file of a former test may be closed
    init_default_scope('mmdet')
    torch.manual_seed(0)
    model = MODELS.build(Config.fromfile(path).model)
    model.init_weights()
    for parameter in model.bbox_head.conv_pred.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    weights = folder / 'weights.pth'
    torch.save(model.state_dict(), weights)
    return path, weights
