"""8-bit files: what is in them, what they find, and how they are evaluated."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from mmdet.structures import DetDataSample
from mmengine.config import Config
from mmengine.structures import InstanceData

from mmdet_yolo2fl import export

from .conftest import ROOT, write_data, write_squares

onnx = pytest.importorskip('onnx', reason="needs pip install 'mmdet_yolo2fl[export]'")
pytest.importorskip('onnxscript', reason="needs pip install 'mmdet_yolo2fl[export]'")
ort = pytest.importorskip('onnxruntime', reason="needs pip install 'mmdet_yolo2fl[export]'")

from mmdet_yolo2fl.export import quantization  # noqa: E402


@pytest.fixture(scope='module')
def files(tmp_path_factory):
    """Config, detector, and the folder of squares.onnx, squares_nms.onnx; made once."""
    folder = tmp_path_factory.mktemp('quantize')
    data_root = write_data(folder / 'data')
    squares, checkpoint = write_squares(folder, data_root, tiny=True)
    path = folder / 'trained.py'
    path.write_text(
        f"""
_base_ = '{squares}'
train_dataloader = dict(dataset=dict(_delete_=True, type='CocoDataset', data_root='{data_root}',
    data_prefix=dict(img=''), ann_file='train.json',
    metainfo=dict(classes=('red', 'blue'))))
test_evaluator = dict(type='CocoMetric', ann_file='{data_root}/valid.json')
"""
    )
    cfg = Config.fromfile(path)
    detector = export.load_yolov2(cfg, checkpoint)
    export.export_onnx(export.RawNetwork(detector), folder / 'squares.onnx', (96, 64))
    export.export_onnx_with_nms(
        export.DecodedNetwork(detector), folder / 'squares_nms.onnx', (96, 64), cfg.model.test_cfg
    )
    return path, cfg, detector, folder


def weights(path):
    """Of each quantized convolution the 8-bit values and the scale of each filter."""
    graph = onnx.load(path).graph
    values = {one.name: onnx.numpy_helper.to_array(one) for one in graph.initializer}
    makers = {name: node for node in graph.node for name in node.output}
    found = []
    for node in graph.node:
        if node.op_type == 'Conv' and node.input[1] in makers:
            maker = makers[node.input[1]]
            assert maker.op_type == 'DequantizeLinear'
            found.append((values[maker.input[0]], values[maker.input[1]]))
    return found


@pytest.mark.parametrize('full_range, signed', [(False, False), (True, False), (True, True)])
def test_weights_are_rounded_filter_by_filter(files, tmp_path, full_range, signed):
    _, cfg, detector, folder = files
    images = quantization.training_images(cfg, detector, 3)
    assert [image.shape for image in images] == [(1, 3, 64, 96)] * 3
    path = tmp_path / 'int8.onnx'
    options = dict(full_range=full_range, signed=signed)
    quantization.quantize(folder / 'squares.onnx', path, images, **options)
    rounded = onnx.load(path).graph
    kinds = {one.name: one.data_type for one in rounded.initializer}
    points = [node.input[2] for node in rounded.node if node.op_type == 'QuantizeLinear']
    kind = onnx.TensorProto.INT8 if signed else onnx.TensorProto.UINT8
    assert points and {kinds[name] for name in points} == {kind}
    assert [one.name for one in tmp_path.iterdir()] == ['int8.onnx']
    convolutions = [m for m in detector.modules() if isinstance(m, torch.nn.Conv2d)]
    found = weights(path)
    assert len(found) == len(convolutions)
    floats = {module.weight.shape: [] for module in convolutions}
    for module in convolutions:
        floats[module.weight.shape].append(module.weight.detach().numpy())
    limit = 127 if full_range else 64
    for values, scale in found:
        assert values.dtype == np.int8 and np.abs(values.astype(int)).max() in (limit - 1, limit)
        assert scale.shape == (len(values),)
        scale = scale.reshape(-1, 1, 1, 1)
        # Rounding costs half a step at most; no other convolution is that near.
        near = [
            (np.abs(values * scale - one) <= 0.501 * scale).all() for one in floats[values.shape]
        ]
        assert sum(near) == 1
    (expected,), (found,) = (
        ort.InferenceSession(str(one), providers=['CPUExecutionProvider']).run(
            None, dict(images=images[0].numpy())
        )
        for one in (folder / 'squares.onnx', path)
    )
    assert 0 < np.abs(found - expected).max() < 0.15 * np.abs(expected).max()


def test_the_last_convolution_and_the_decoding_may_stay_in_float(files, tmp_path):
    _, cfg, detector, folder = files
    images = quantization.training_images(cfg, detector, 2)
    path = tmp_path / 'int8.onnx'
    quantization.quantize(folder / 'squares_nms.onnx', path, images, float_last=True)
    convolutions = [m for m in detector.modules() if isinstance(m, torch.nn.Conv2d)]
    assert len(weights(path)) == len(convolutions) - 1
    nodes = list(onnx.load(path).graph.node)
    last = max(i for i, node in enumerate(nodes) if node.op_type == 'Conv')
    produced, rest = set(nodes[last].output), []
    for node in nodes[last + 1 :]:
        if produced & {*node.input}:
            produced |= {*node.output}
            rest.append(node.op_type)
    assert 'NonMaxSuppression' in rest and not [one for one in rest if 'Quantize' in one]


def test_perfect_boxes_have_an_ap_of_1(files):
    _, cfg, detector, _ = files
    truths = iter(list(range(1, 5)) * 2)

    def predict(images, swap=False):
        number = next(truths)
        # As tests/tools/conftest.py draws them: 90x60 pixels, brought to 96x64.
        scale = torch.tensor([96 / 90, 64 / 60] * 2)
        box = torch.tensor([[20.0 + number, 10, 50 + number, 40]]) * scale
        label = torch.tensor([number % 2])
        return [InstanceData(bboxes=box, scores=torch.ones(1), labels=1 - label if swap else label)]

    assert quantization.evaluate(cfg, detector, predict, '')['coco/bbox_mAP'] == 1
    swapped = quantization.evaluate(cfg, detector, lambda x: predict(x, True), '')
    assert swapped['coco/bbox_mAP'] == 0


def test_a_file_that_finds_nothing_is_shown(tool, tmp_path):
    paths = [tmp_path / 'a.onnx', tmp_path / 'b.onnx']
    for path in paths:
        path.write_bytes(b'x')
    text = tool('quantize').__globals__['table'](
        paths, dict.fromkeys(paths, 1.0), [{'coco/bbox_mAP': 0.5}, {}]
    )
    assert '| bbox_mAP | 0.500 | 0.000 | -0.500 |' in text


def test_tool_and_example(files, tool, tmp_path, capsys):
    config, _, _, folder = files
    out = tmp_path / 'new/folder/squares_int8.onnx'
    args = [config, folder / 'squares_nms.onnx', '--out', out, '--repeat', '1']
    tool('quantize')([str(arg) for arg in args])
    printed = capsys.readouterr().out
    assert [file.name for file in out.parent.iterdir()] == [out.name]
    assert 'from 4 images of the training set' in printed
    rows = {line.split(' | ')[0]: line for line in printed.splitlines() if line.startswith('| ')}
    assert {'| MB', '| ms', '| bbox_mAP_50'} <= {*rows}
    # The program that runs the float file runs this one.
    description = tmp_path / 'squares.json'
    about = export.describe(files[1], files[2], ('red', 'blue'), (96, 64))
    description.write_text(json.dumps(about))
    command = [sys.executable, ROOT / 'examples/onnx_runtime.py', out, description]
    command += [folder / 'data/1.png', tmp_path / 'drawn.png']
    run = subprocess.run(list(map(str, command)), capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert {line.split()[0] for line in run.stdout.splitlines()} <= {'red', 'blue'}
    assert len(run.stdout.splitlines()) >= 1 and (tmp_path / 'drawn.png').is_file()


@pytest.mark.parametrize('name', ['squares.onnx', 'squares_nms.onnx'])
def test_a_file_of_another_size(files, tool, tmp_path, capsys, name):
    """As the export made it; a file of free shapes would take any size."""
    config, cfg, detector, _ = files
    export.export_onnx(export.RawNetwork(detector), tmp_path / 'squares.onnx', (64, 32))
    export.export_onnx_with_nms(
        export.DecodedNetwork(detector), tmp_path / 'squares_nms.onnx', (64, 32), cfg.model.test_cfg
    )
    options = ['--size', '64', '32', '--repeat', '1', '--no-evaluation']
    tool('quantize')([str(config), str(tmp_path / name), *options])
    assert 'At 64x32; ms: median of one image' in capsys.readouterr().out


def test_usage_errors(files, tool, refused, tmp_path, monkeypatch):
    config, cfg, detector, folder = files
    main, good = tool('quantize'), folder / 'squares.onnx'
    assert 'there is no such file' in refused(main, config, tmp_path / 'none.onnx')
    broken = tmp_path / 'broken.onnx'
    broken.write_bytes(b'no model')
    assert 'not an ONNX file' in refused(main, config, broken)
    value = onnx.helper.make_tensor_value_info('x', onnx.TensorProto.FLOAT, [1, 3])
    other = onnx.helper.make_graph([onnx.helper.make_node('Relu', ['x'], ['y'])], 'g', [value], [])
    other.output.append(onnx.helper.make_tensor_value_info('y', onnx.TensorProto.FLOAT, [1, 3]))
    onnx.save(onnx.helper.make_model(other), broken)
    assert 'not made by tools/export.py' in refused(main, config, broken)
    message = refused(main, config, good, '--cfg-options', 'model.bbox_head.num_classes=3')
    assert 'map has 35 channels, but 40' in message
    small = tmp_path / 'small.py'
    small.write_text(f"_base_ = '{config}'\ntest_dataloader = dict(dataset=dict(pipeline=["
                     "dict(type='LoadImageFromFile'), dict(type='Resize', scale=(64, 64)),"
                     "dict(type='PackDetInputs')]))\n")  # fmt: skip
    message = refused(main, small, good, '--out', tmp_path / 'x.onnx')
    assert 'made for 96x64' in message and 'give --size 96 64' in message
    assert '--size' in refused(main, config, good, '--size', '0', '5')
    assert '--threads' in refused(main, config, good, '--threads', '0')
    assert 'is the file to be quantized' in refused(main, config, good, '--out', good)
    int8 = tmp_path / 'int8.onnx'
    quantization.quantize(good, int8, quantization.training_images(cfg, detector, 1))
    assert 'quantized already' in refused(main, config, int8)
    empty = f'{folder}/data/empty.json'
    Path(empty).write_text('{"images": [], "annotations": [], "categories": []}')
    options = ['--cfg-options', 'train_dataloader=None']
    assert 'has no train_dataloader' in refused(main, config, good, *options)
    options = ['--cfg-options', f'train_dataloader.dataset.ann_file={empty}']
    assert 'no image in its training set' in refused(main, config, good, *options)
    find = main.__globals__['importlib'].util.find_spec
    monkeypatch.setattr(
        'importlib.util.find_spec', lambda name: None if name == 'onnxruntime' else find(name)
    )
    assert 'mmdet_yolo2fl[export]' in refused(main, config, good)


def test_boxes_leave_the_letterbox():
    """The figures of test_yolov2_head.py::test_letterbox_by_hand."""
    sample = DetDataSample(
        metainfo=dict(pad_offset=(30.0, 12.0), scale_factor=(0.5, 2.0), ori_shape=(36, 200))
    )
    boxes = torch.tensor([[80.0, 0, 144, 96], [32, 32, 64, 64], [140, 32, 160, 64]])
    found = InstanceData(bboxes=boxes, scores=torch.ones(3), labels=torch.zeros(3))
    in_photo = quantization._in_photo(found, sample, 0)
    assert in_photo.bboxes.tolist() == [[100, 0, 200, 36], [4, 10, 68, 26]]  # the last on the grey
    assert [len(quantization._in_photo(found, sample, limit)) for limit in (-1, 20, 40)] == [
        3,
        1,
        0,
    ]


def test_percentiles_want_images_of_one_size(files, tmp_path):
    images = [torch.zeros(1, 3, 64, 96), torch.zeros(1, 3, 96, 64)]
    with pytest.raises(ValueError, match='percentile: ONNX Runtime takes images of one size'):
        quantization.quantize(files[3] / 'squares_nms.onnx', tmp_path / 'a', images, 'percentile')
