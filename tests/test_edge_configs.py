"""The presets of configs/edge train, and their files are what small processors run."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.runner import Runner

from .conftest import instances

# How to run a main() of tools/.
from .tools.conftest import tool  # noqa: F401

EDGE = Path(__file__).parents[1] / 'configs/edge'
PRESETS = {
    'yolov2_tiny_224': (1, 3, 224, 224),
    'yolov2_tiny_320x240': (1, 3, 240, 320),
    'yolov2_tiny_320x240_grey': (1, 1, 240, 320),
    'yolov2_mobilenetv2_224': (1, 3, 224, 224),
    'yolov2_mobilenetv2_320x240': (1, 3, 240, 320),
    'yolov2_mobilenetv2_320x240_grey': (1, 1, 240, 320),
}


def test_every_preset_is_tested():
    assert {path.stem for path in EDGE.glob('*.py')} == set(PRESETS)


@pytest.fixture(scope='module')
def scenes(tmp_path_factory):
    """A folder for the street scenes, which all presets share."""
    return tmp_path_factory.mktemp('scenes')


@pytest.mark.parametrize('name', PRESETS)
def test_trains_and_exports_what_small_processors_run(name, scenes, tmp_path, tool, capsys):  # noqa: F811
    onnx = pytest.importorskip('onnx', reason="needs pip install 'mmdet_yolo2fl[export]'")
    pytest.importorskip('onnxscript', reason="needs pip install 'mmdet_yolo2fl[export]'")
    ort = pytest.importorskip('onnxruntime', reason="needs pip install 'mmdet_yolo2fl[export]'")
    path = tmp_path / f'{name}.py'
    few = dict(num_images=4, data_root=str(scenes))
    loader = dict(num_workers=0, persistent_workers=False, dataset=few)
    path.write_text(
        f"""
_base_ = '{EDGE / name}.py'
train_dataloader = dict(batch_size=2, **{loader})
val_dataloader = {loader}
test_dataloader = val_dataloader
train_cfg = dict(_delete_=True, type='IterBasedTrainLoop', max_iters=2, val_interval=2)
param_scheduler = None
# The same weights on processors with bfloat16 and without.
optim_wrapper = dict(type='OptimWrapper')
default_hooks = dict(checkpoint=dict(by_epoch=False, interval=2, save_best=None))
model = dict(
    # Scores far enough apart for two iterations to make boxes that can be compared.
    bbox_head=dict(
        normalizer='num_pos',
        init_cfg=dict(type='Kaiming', layer='Conv2d', override=dict(
            type='Normal', name='conv_pred', std=0.01)),
    ),
    test_cfg=dict(score_thr=0.05),
)
randomness = dict(seed=0)
work_dir = '{tmp_path / 'run'}'
experiment_name = '{tmp_path.name}'
log_level = 'WARNING'
"""
    )
    runner = Runner.from_cfg(Config.fromfile(path))
    for module in runner.model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = 1.0  # two iterations of statistics would not do
    runner.train()
    out = tmp_path / 'out'
    tool('export')(
        [str(path), str(tmp_path / 'run/iter_2.pth'), '--out', str(out), '--num-images', '2']
        + ['--formats', 'onnx']
    )
    printed = capsys.readouterr().out
    assert 'boxes in 2 images' in printed and ' 0 boxes' not in printed

    shape = PRESETS[name]
    model = onnx.load(out / f'{name}.onnx')
    assert {node.op_type for node in model.graph.node} <= {'Conv', 'Relu', 'MaxPool', 'Add'}
    assert model.ir_version <= 8
    pools = [node for node in model.graph.node if node.op_type == 'MaxPool']
    assert not any(one.i for node in pools for one in node.attribute if one.name == 'ceil_mode')
    graph = onnx.shape_inference.infer_shapes(model, strict_mode=True).graph
    values = {value.name: value for value in (*graph.input, *graph.value_info, *graph.output)}
    for name_of_map in ('images', *(name for node in graph.node for name in node.output)):
        sizes = [dim.dim_value for dim in values[name_of_map].type.tensor_type.shape.dim]
        assert len(sizes) == 4 and min(sizes) > 0, name_of_map
    # No name of the machine it was made on.
    assert str(EDGE.parents[1]).encode() not in (out / f'{name}.onnx').read_bytes()
    # OpenCV too reads the padding of the pooling, at its lower and right borders.
    image = np.random.default_rng(0).random(shape, np.float32)
    session = ort.InferenceSession(str(out / f'{name}.onnx'), providers=['CPUExecutionProvider'])
    (found,) = session.run(None, {'images': image})
    assert found.shape == (1, 45, -(-shape[2] // 32), shape[3] // 32)
    network = cv2.dnn.readNetFromONNX(str(out / f'{name}.onnx'))
    network.setInput(image)
    np.testing.assert_allclose(network.forward(), found, atol=1e-4 * np.abs(found).max())


@pytest.mark.parametrize('name', ['yolov2_tiny_320x240', 'yolov2_mobilenetv2_320x240'])
def test_240_rows_are_8_rows_of_cells(name):
    """Training and prediction agree on them, in figures worked out by hand."""
    cfg = Config.fromfile(EDGE / f'{name}.py')
    cfg.model.test_cfg.score_thr = 0.5
    model = MODELS.build(cfg.model).eval()
    raw = torch.full_like(model.forward(torch.zeros(1, 3, 240, 320))[0], -20.0)
    assert raw.shape == (1, 5 * 9, 8, 10)
    # The second anchor in the last row, column 3: its centre is at x = 32 (3 + 3/4) = 120 and
    # y = 32 (7 + 1/4) = 232; e^tw = 2, e^th = 1/2 of the anchor.
    raw[0, 9:18, 7, 3] = torch.tensor([3.0, 1 / 3, 4.0, 0.25, 1e4, 1, 1, 1e4, 1]).log()
    raw[0, 11:13, 7, 3] /= 2
    width, height = 32 * np.array(cfg.model.bbox_head.anchor_generator.anchors[1])
    box = [120 - width, 232 - height / 4, 120 + width, 232 + height / 4]
    # A photo of 640x480, squeezed to 320x240.
    meta = dict(img_shape=(240, 320), batch_input_shape=(240, 320), scale_factor=(0.5, 0.5))
    (found,) = model.bbox_head.predict_by_feat(raw, [meta], rescale=True)
    assert found.labels.tolist() == [2]
    assert found.scores.item() == pytest.approx(1e4 / 10001 * 1e4 / 10003, abs=1e-6)
    expected = [2 * box[0], 2 * box[1], 2 * box[2], min(2 * box[3], 480)]
    assert found.bboxes[0].tolist() == pytest.approx(expected, abs=1e-3)
    # A truth of that box belongs to that slot, and is what it predicts.
    losses = model.bbox_head.loss_by_feat(raw, [instances([box], [2])], [meta])
    assert losses['num_pos'] == 1 and losses['num_skipped'] == 0
    assert losses['avg_iou'].item() == pytest.approx(1, abs=1e-5)


def test_grey_is_what_opencv_makes_of_a_colour_image():
    cfg = Config.fromfile(EDGE / 'yolov2_tiny_320x240_grey.py')
    from mmcv.transforms import Compose

    image = np.random.default_rng(0).integers(0, 256, (240, 320, 3), np.uint8)
    for steps in (cfg.test_pipeline, cfg.tta_pipeline, cfg.test_dataloader.dataset.pipeline):
        steps = [step for step in steps if step.type not in ('LoadImageFromFile',)]
        assert [step.type for step in steps][-2] == 'RandomGrayscale'
    grey = Compose([cfg.train_dataloader.dataset.pipeline[-2]])(dict(img=image))['img']
    theirs = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)
    assert grey.shape == (240, 320)
    assert np.abs(grey.astype(int) - theirs).max() <= 1
