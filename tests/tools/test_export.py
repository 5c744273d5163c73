"""Exported files find what PyTorch finds, with other batches and sizes too."""

import argparse
import io
import json
import shutil
import subprocess
import sys
from contextlib import redirect_stdout
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from mmcv.transforms import Compose
from mmdet.apis import inference_detector, init_detector
from mmdet.registry import MODELS
from mmengine.config import Config, ConfigDict
from mmengine.structures import InstanceData
from PIL import Image

from mmdet_yolo2fl.darknet import resize_note
from mmdet_yolo2fl.datasets.transforms import DarknetResize
from mmdet_yolo2fl.export import (
    Comparison,
    DecodedNetwork,
    as_inputs,
    check_description,
    compare,
    describe,
    export_torch,
    load_yolov2,
    suppression_iou,
)
from mmdet_yolo2fl.export.check import onnx_runner, torch_runner, with_nms
from mmdet_yolo2fl.resizing import how_resized, resize_to
from tests.documentation import blocks
from tests.test_checkpoints import Hostile

from .conftest import tools, write_data, write_squares

onnx = pytest.importorskip('onnx', reason="needs pip install 'mmdet_yolo2fl[export]'")
pytest.importorskip('onnxscript', reason="needs pip install 'mmdet_yolo2fl[export]'")
ort = pytest.importorskip('onnxruntime', reason="needs pip install 'mmdet_yolo2fl[export]'")


ROOT = Path(__file__).parents[2]


def export(*arguments):
    """What the tool prints, in this process: what it takes to start is long, and needed once."""
    with tools() as tool, redirect_stdout(io.StringIO()) as printed:
        tool('export')([str(argument) for argument in arguments])
    return printed.getvalue()


@pytest.fixture(scope='module')
def exported(tmp_path_factory):
    """Folder of all files, what was printed, config, checkpoint and data; made once."""
    folder = tmp_path_factory.mktemp('export')
    data_root = write_data(folder / 'data')
    config, checkpoint = write_squares(folder, data_root)
    printed = export(config, checkpoint, '--out', folder / 'exported', '--num-images', '3')
    return folder / 'exported', printed, config, checkpoint, data_root


@pytest.fixture
def squares(tmp_path, data_root):
    return write_squares(tmp_path, data_root, tiny=True)


@pytest.fixture
def config(squares):
    return squares[0]


@pytest.fixture
def checkpoint(squares):
    return squares[1]


def test_every_format(exported):
    out, printed, config, checkpoint, _ = exported
    names = {path.name for path in out.iterdir()}
    kinds = ('.onnx', '_dynamic.onnx', '_nms.onnx', '.pt2', '.json', '.cfg', '.weights', '.names')
    assert names == {f'squares{kind}' for kind in kinds}
    assert printed.count('boxes in 3 images') == 5 and 'unmatched' not in printed
    assert ' 0 boxes' not in printed
    detector = load_yolov2(Config.fromfile(config), checkpoint)
    # Batch and size are free.
    generator = torch.Generator().manual_seed(0)
    batches = [
        torch.rand(*shape, generator=generator) for shape in ((1, 3, 64, 96), (3, 3, 96, 64))
    ]
    for name in ('squares_dynamic.onnx', 'squares_nms.onnx', 'squares.pt2'):
        runner = torch_runner if name.endswith('.pt2') else onnx_runner
        found = compare(detector, runner(out / name, detector), batches)
        assert found.equal and found.boxes > 10, name
    # Nothing above four dimensions: what small processors can do.
    session = ort.InferenceSession(str(out / 'squares.onnx'))
    (output,) = session.get_outputs()
    assert output.shape == [1, 5 * (5 + 2), 2, 3]
    graph = onnx.shape_inference.infer_shapes(onnx.load(out / 'squares.onnx')).graph
    assert all(len(value.type.tensor_type.shape.dim) <= 4 for value in graph.value_info)
    operators = {node.op_type for node in graph.node}
    assert operators <= {'Conv', 'LeakyRelu', 'MaxPool', 'Concat', 'Slice', 'Reshape'}
    # What stands in the JSON is enough to decode the map by hand.
    about = json.loads((out / 'squares.json').read_text())
    assert about['classes'] == ['red', 'blue'] and about['input']['size'] == [96, 64]
    assert about['input']['std'] == [255.0] * 3 and about['input']['resize'] == 'stretch'
    boxes, scores = by_hand(session.run(None, {'images': batches[0].numpy()})[0], about)
    program = torch.export.load(out / 'squares.pt2').module()
    with torch.no_grad():
        expected = program(batches[0])
    np.testing.assert_allclose(boxes, expected[0][0], rtol=2e-5, atol=1e-3)
    np.testing.assert_allclose(scores, expected[1][0].T, atol=1e-5)


@pytest.mark.parametrize('pad', ['', "dict(type='Pad', size_divisor=32),"])
def test_images_that_are_padded(squares, tmp_path, tool, refused, pad):
    """Trained with black below, a program would stretch them."""
    config, checkpoint = squares
    odd = tmp_path / 'odd.py'
    odd.write_text(
        f"_base_ = '{config}'\ntest_dataloader = dict(dataset=dict(pipeline=["
        "dict(type='LoadImageFromFile'), dict(type='Resize', scale=(96, 60), keep_ratio=False),"
        f"{pad} dict(type='PackDetInputs')]))\n"
    )
    message = refused(tool('export'), odd, checkpoint, '--out', tmp_path / 'out')
    assert 'images are padded from 96x60 to 96x64, and a program would stretch' in message
    assert not (tmp_path / 'out').exists()


STEPS = {
    'grey, but of three channels': "dict(type='RandomGrayscale', prob=1.0, keep_channels=True)",
    'normalized twice': "dict(type='Normalize', mean=[0, 0, 0], std=[2, 2, 2], to_rgb=False)",
    'smoothed by Pillow': "dict(type='Resize', scale=(96, 64), keep_ratio=False, backend='pillow')",
}


@pytest.mark.parametrize('step', STEPS.values(), ids=STEPS)
def test_what_the_description_cannot_tell(squares, tmp_path, tool, refused, step):
    """A program would feed other images, and nobody would notice."""
    config, checkpoint = squares
    photo = tmp_path / 'noise.png'
    cv2.imwrite(str(photo), np.random.default_rng(0).integers(0, 256, (300, 400, 3), np.uint8))
    resize = '' if 'Resize' in step else "dict(type='Resize', scale=(96, 64), keep_ratio=False),"
    odd = tmp_path / 'odd.py'
    odd.write_text(
        f"_base_ = '{config}'\ntest_dataloader = dict(dataset=dict(pipeline=["
        f"dict(type='LoadImageFromFile'), {resize} {step}, dict(type='PackDetInputs')]))\n"
    )
    out, images = tmp_path / 'out', ['--images', photo]
    message = refused(tool('export'), odd, checkpoint, '--out', out, *images)
    assert 'in a way that the description cannot tell' in message and not list(out.iterdir())


def test_another_size_where_the_ratio_is_kept(squares, tmp_path, tool):
    config, checkpoint = squares
    kept = tmp_path / 'kept.py'
    kept.write_text(
        f"_base_ = '{config}'\ntest_dataloader = dict(dataset=dict(pipeline=["
        "dict(type='LoadImageFromFile'), dict(type='Resize', scale=(96, 64), keep_ratio=True),"
        "dict(type='Pad', size=(96, 64)), dict(type='PackDetInputs')]))\n"
    )
    out = ['--out', str(tmp_path / 'out'), '--formats', 'darknet', '--size', '64', '64']
    tool('export')([str(kept), str(checkpoint), *out])
    told = json.loads((tmp_path / 'out/kept.json').read_text())['input']
    assert told['size'] == told['scale'] == told['padded_to'] == [64, 64]
    assert told['multiple_of'] == 32


def test_the_least_size_of_a_box_is_told_and_left_to_the_program(squares, tmp_path):
    """It is of what is left within the photo, which a file does not know."""
    config, checkpoint = squares
    other = tmp_path / 'larger.py'
    other.write_text(f"_base_ = '{config}'\nmodel = dict(test_cfg=dict(min_bbox_size=20))\n")
    formats = ('--formats', 'onnx', 'onnx-nms', 'torch')
    printed = export(other, checkpoint, '--out', tmp_path / 'out', *formats)
    assert printed.count(' boxes in ') == 3 and 'unmatched' not in printed
    assert json.loads((tmp_path / 'out/larger.json').read_text())['min_bbox_size'] == 20


def test_a_photo_that_is_not_turned(squares, tmp_path):
    config, checkpoint = squares
    other = tmp_path / 'flat.py'
    other.write_text(
        f"_base_ = '{config}'\ntest_dataloader = dict(dataset=dict(pipeline=["
        "dict(type='LoadImageFromFile', color_type='color_ignore_orientation'),"
        "dict(type='Resize', scale=(96, 64), keep_ratio=False), dict(type='PackDetInputs')]))\n"
    )
    photo = tmp_path / 'photo.jpg'
    pixels = np.random.default_rng(0).integers(0, 256, (60, 90, 3), np.uint8)
    note = Image.Exif()
    note[0x0112] = 6
    Image.fromarray(pixels).save(photo, exif=note)
    formats = ('--formats', 'onnx', 'onnx-nms', '--images', photo)
    export(other, checkpoint, '--out', tmp_path / 'out', *formats)
    assert not json.loads((tmp_path / 'out/flat.json').read_text())['input']['exif']
    for example in ('onnx_runtime', 'opencv_dnn'):
        drawn = tmp_path / f'{example}.png'
        run_example(example, tmp_path / 'out', 'flat', photo, drawn)
        assert cv2.imread(str(drawn)).shape == (60, 90, 3)


def test_one_number_as_the_size(tool):
    check = tool('export').__globals__['check_not_padded']
    check([dict(type='Resize', scale=64)], (64, 64), 'stretch')
    check([dict(type='Pad', size_divisor=32)], (64, 64), 'none')
    with pytest.raises(ValueError, match='padded from 60x60 to 64x64'):
        check([dict(type='Resize', scale=60)], (64, 64), 'stretch')


def test_what_multiples_of_the_cells_allow(tool):
    fixed = tool('export').__globals__['fixed_size_only']
    for stride, kept in ((16, ('onnx', 'darknet')), (32, ('onnx',))):
        every = argparse.Namespace(formats=('onnx', 'onnx-nms', 'torch', 'darknet'), all=True)
        fixed(every, (336, 320), stride)
        assert every.formats == kept
    alone = argparse.Namespace(formats=['darknet'], all=False)
    fixed(alone, (336, 320), 16)
    with pytest.raises(ValueError, match='336x320 is no multiple of 32: there is no darknet'):
        fixed(alone, (336, 320), 32)


def test_names_of_the_checkpoint(squares, tmp_path):
    """The annotations may have been written anew, in another order."""
    config, checkpoint = squares
    meta = dict(dataset_meta=dict(classes=['blue', 'red']))
    weights = torch.load(checkpoint, weights_only=True)
    torch.save(dict(state_dict=weights, meta=meta), tmp_path / 'other.pth')
    out = tmp_path / 'out'
    printed = export(config, tmp_path / 'other.pth', '--out', out, '--formats', 'darknet')
    assert "trained with ['blue', 'red']: these names, not ['red', 'blue']" in printed
    (about,) = out.glob('*.json')
    assert json.loads(about.read_text())['classes'] == ['blue', 'red']
    (names,) = out.glob('*.names')
    assert names.read_text().split() == ['blue', 'red']


def run_example(example, folder, name, photo, drawn):
    """Class, score and box of each line that it prints, the best first.

    In a process of its own, which knows nothing of torch or of this package.
    """
    model = folder / (f'{name}_nms.onnx' if example == 'onnx_runtime' else f'{name}.onnx')
    script = ROOT / f'examples/{example}.py'
    hide = 'import runpy, sys; sys.modules.update(torch=None, mmdet=None, mmdet_yolo2fl=None); '
    hide += "sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0], run_name='__main__')"
    command = [sys.executable, '-c', hide, script, model, folder / f'{name}.json', photo, drawn]
    printed = subprocess.run(
        list(map(str, command)), check=True, capture_output=True, text=True
    ).stdout
    found = [line.split() for line in printed.splitlines()]
    return sorted(((name, *map(float, rest)) for name, *rest in found), key=lambda x: -x[1])


@pytest.fixture(scope='module')
def grey(exported, tmp_path_factory):
    """As ``exported``, tiny and of one channel: the weights of the three added up."""
    folder, data_root = tmp_path_factory.mktemp('grey'), exported[-1]
    squares, checkpoint = write_squares(folder, data_root, tiny=True)
    config = folder / 'grey.py'
    config.write_text(
        """
_base_ = './squares.py'
grey = dict(type='RandomGrayscale', prob=1.0, channel_weights=(0.114, 0.587, 0.299))
pipeline = _base_.pipeline
pipeline.insert(-1, grey)
test_dataloader = dict(dataset=dict(pipeline=pipeline))
model = dict(
    data_preprocessor=dict(mean=[0.0], std=[255.0], bgr_to_rgb=False),
    backbone=dict(in_channels=1))
"""
    )
    weights = torch.load(checkpoint, weights_only=True)
    first = next(name for name in weights if name.endswith('conv.weight'))
    assert weights[first].shape[1] == 3
    weights[first] = weights[first].sum(1, keepdim=True)
    torch.save(weights, checkpoint)
    formats = ('--formats', 'onnx', 'onnx-nms', '--num-images', '3')
    printed = export(config, checkpoint, '--out', folder / 'exported', *formats)
    return folder / 'exported', printed, config, checkpoint, data_root


@pytest.mark.parametrize('name', ['squares', 'grey'])
@pytest.mark.parametrize('example', ['onnx_runtime', 'opencv_dnn'])
def test_examples_find_the_same(example, name, request, tmp_path):
    made = request.getfixturevalue('exported' if name == 'squares' else name)
    out, _, config, checkpoint, data_root = made
    photo, drawn = data_root / '1.png', tmp_path / 'drawn.png'
    found = run_example(example, out, name, photo, drawn)
    model = init_detector(str(config), str(checkpoint), device='cpu', palette='random')
    expected = inference_detector(model, str(photo)).pred_instances
    assert len(expected) == 5 <= len(found)  # max_per_img, which the examples leave to the user
    for (label, score, *box), other in zip(found, expected):
        assert label == ('red', 'blue')[int(other.labels)]
        assert score == pytest.approx(float(other.scores), abs=2e-4)
        inside = np.clip(box, 0, [90, 60, 90, 60])  # MMDetection cuts boxes off at the borders
        assert inside == pytest.approx(other.bboxes[0].numpy(), abs=0.06)
    assert cv2.imread(str(drawn)).shape == (60, 90, 3)


def test_the_documented_lines_for_openvino(exported):
    openvino = pytest.importorskip('openvino', reason="needs pip install 'mmdet_yolo2fl[openvino]'")
    model = str(exported[0] / 'squares.onnx')
    (text,) = [t for t in blocks(ROOT / 'docs/deploy.md', 'python') if 'openvino' in t]
    assert text.count('exported/NAME_int8.onnx') == 1
    images = np.random.default_rng(0).random((1, 3, 64, 96), np.float32)
    found = dict(openvino=openvino, images=images)
    exec(text.replace('exported/NAME_int8.onnx', model), found)
    (expected,) = ort.InferenceSession(model).run(None, {'images': images})
    np.testing.assert_allclose(found['raw'], expected, rtol=1e-3, atol=1e-3)


def by_hand(raw, about):
    """The design's equations, in loops."""
    anchors, stride = about['map']['anchors'], about['map']['stride']
    attributes = 5 + len(about['classes'])
    boxes, scores = [], []
    _, _, height, width = raw.shape
    for j in range(height):
        for i in range(width):
            for a, (pw, ph) in enumerate(anchors):
                tx, ty, tw, th, to, *logits = raw[0, a * attributes : (a + 1) * attributes, j, i]
                x, y = (1 / (1 + np.exp(-tx)) + i) * stride, (1 / (1 + np.exp(-ty)) + j) * stride
                w, h = pw * np.exp(tw) * stride, ph * np.exp(th) * stride
                boxes.append([x - w / 2, y - h / 2, x + w / 2, y + h / 2])
                classes = np.exp(logits - np.max(logits))
                scores.append(classes / classes.sum() / (1 + np.exp(-to)))
    return np.array(boxes), np.array(scores)


def test_batch_normalization_is_folded(config, checkpoint):
    cfg = Config.fromfile(config)
    folded, plain = load_yolov2(cfg, checkpoint), load_yolov2(cfg, checkpoint, fuse=False)
    kinds = [type(module).__name__ for module in folded.modules()]
    assert 'BatchNorm2d' not in kinds
    images = torch.rand(1, 3, 64, 96)
    with torch.no_grad():
        one, other = (d.bbox_head(d.extract_feat(images))[0] for d in (folded, plain))
    torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    'options, channels',
    [(dict(bgr_to_rgb=True), 'RGB'), (dict(bgr_to_rgb=False), 'BGR')],
    ids=str,
)
def test_the_description_tells_the_order_of_the_channels(config, checkpoint, options, channels):
    cfg = Config.fromfile(config)
    cfg.model.data_preprocessor.update(options)
    about = describe(cfg, load_yolov2(cfg, checkpoint), ('red', 'blue'), (96, 64))
    assert about['input']['channels'] == channels


def test_every_step_makes_images_of_the_size():
    fixed = dict(type='FixShapeResize', width=64, height=64, keep_ratio=True)
    steps = [dict(type='Resize', scale=(64, 64)), dict(type='Pad', size=(64, 64)), fixed]
    dataset = ConfigDict(type='CocoDataset', pipeline=[*steps, dict(type='Pad', size_divisor=32)])
    resize_to(dataset, (96, 32))
    image = np.zeros((50, 70, 3), np.uint8)
    for step in dataset.pipeline[::2], dataset.pipeline[:2]:
        assert Compose(step)(dict(img=image))['img'].shape == (32, 96, 3)
    assert dataset.pipeline[3] == dict(type='Pad', size_divisor=32)


@pytest.mark.parametrize(
    'pad, norm, expected',
    [
        ([], dict(mean=[120.0, 110, 100], std=[60.0, 50, 40], pad_value=0), [120, 110, 100]),
        ([], dict(mean=[120.0, 110, 100], std=[60.0, 50, 40], pad_value=1), [180, 160, 140]),
        ([dict(type='Pad', size=(96, 64), pad_val=dict(img=(1, 2, 3)))], {}, [3, 2, 1]),
        ([dict(type='Pad', size=(96, 64))], {}, [0, 0, 0]),
        (dict(type='FixShapeResize', width=96, height=64, pad_val=7), {}, [7, 7, 7]),
    ],
    ids=['mean', 'pad_value', 'step', 'black', 'fixed'],
)
def test_the_description_tells_what_is_padded_with(config, checkpoint, pad, norm, expected):
    cfg = Config.fromfile(config)
    cfg.model.data_preprocessor.update(norm, bgr_to_rgb=True)
    pipeline = cfg.test_dataloader.dataset.pipeline
    place = [step['type'] for step in pipeline].index('Resize')
    names = ('red', 'blue')
    about = describe(cfg, load_yolov2(cfg, checkpoint), names, (96, 64))
    assert not {'padding', 'scale'} & {*about['input']}
    if isinstance(pad, dict):
        pipeline[place] = dict(pad, keep_ratio=True)
    else:
        pipeline[place]['keep_ratio'] = True
        pipeline[place + 1 : place + 1] = pad
    detector = load_yolov2(cfg, checkpoint)
    about = describe(cfg, detector, names, (96, 64))
    assert about['input']['padding'] == expected
    assert about['input']['scale'] == [96, 64]
    # The rest of an image that fills the left half, as the network gets it.
    steps = [step for step in pipeline if step['type'] != 'LoadAnnotations']
    steps[0] = dict(type='mmdet.LoadImageFromNDArray')
    sample = Compose(steps)(dict(img=np.full((64, 48, 3), 9, np.uint8), img_id=0))
    wide = Compose(steps)(dict(img=np.full((64, 96, 3), 9, np.uint8), img_id=1))
    data = {key: [sample[key], wide[key]] for key in sample}
    pixels = detector.data_preprocessor(data)['inputs'][0, :, 5, -1]
    mean, std = (torch.tensor(about['input'][key]) for key in ('mean', 'std'))
    assert (pixels * std + mean).tolist() == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize(
    'steps, fit, padded_to',
    [
        ([dict(type='Resize', scale=(96, 64), keep_ratio=True)], 'long and short side', 32),
        (
            [dict(type='Resize', scale=(96, 64), keep_ratio=True), dict(type='Pad', size=(96, 96))],
            *('long and short side', [96, 96]),
        ),
        (
            [dict(type='FixShapeResize', width=96, height=64, keep_ratio=True)],
            *('width and height', [96, 64]),
        ),
    ],
    ids=['by the network', 'by a step', 'fixed'],
)
# The last one is rounded twice by FixShapeResize.
@pytest.mark.parametrize('size', [(90, 60), (40, 60), (61, 131)], ids=str)
def test_a_program_can_repeat_what_keeps_the_ratio(config, checkpoint, steps, fit, padded_to, size):
    cfg = Config.fromfile(config)
    cfg.model.data_preprocessor.update(mean=[9.0, 9, 9], std=[20.0, 20, 20], pad_size_divisor=32)
    pipeline = [dict(type='LoadImageFromNDArray'), *steps, dict(type='PackDetInputs')]
    cfg.test_dataloader.dataset.pipeline = pipeline
    detector = load_yolov2(cfg, checkpoint)
    about = describe(cfg, detector, ('red', 'blue'), (96, 64))
    told = about['input']
    assert (told['scale'], told['fit'], told['padded_to']) == ([96, 64], fit, padded_to)
    # A gradient, which a wrong place or size shows.
    rows, columns = np.mgrid[: size[1], : size[0]]
    photo = np.stack([2 * rows, 2 * columns, rows + columns], -1).astype(np.uint8)
    (made,) = as_inputs(detector, [Compose(pipeline)(dict(img=photo, img_id=0))])
    assert all(
        side % padded_to == 0 if isinstance(padded_to, int) else side == padded_to[axis]
        for axis, side in enumerate(made.shape[:1:-1])
    )
    check_description(about, photo, made)
    other = {'width and height': 'long and short side'}.get(fit, 'width and height')
    if size[0] < size[1]:  # where the two differ
        with pytest.raises(ValueError, match='but the input is|the description cannot tell'):
            check_description(dict(input=told | dict(fit=other)), photo, made)


def test_what_is_padded_twice_is_refused(config, checkpoint):
    """Black beside black: the pixels are those that are told, but not their number."""
    cfg = Config.fromfile(config)
    cfg.model.data_preprocessor.update(pad_size_divisor=32, pad_value=0)
    steps = [dict(type='FixShapeResize', width=80, height=48, keep_ratio=True)]
    pipeline = [dict(type='LoadImageFromNDArray'), *steps, dict(type='PackDetInputs')]
    cfg.test_dataloader.dataset.pipeline = pipeline
    detector = load_yolov2(cfg, checkpoint)
    about = describe(cfg, detector, ('red', 'blue'), (96, 64))
    photo = np.full((48, 80, 3), 99, np.uint8)
    (made,) = as_inputs(detector, [Compose(pipeline)(dict(img=photo, img_id=0))])
    assert about['input']['padded_to'] == [80, 48] and made.shape[2:] == (64, 96)
    with pytest.raises(ValueError, match='filled up to 80x48 .* but the input is 96x64: pad once'):
        check_description(about, photo, made)


@pytest.mark.parametrize(
    'nms, expected',
    [
        (dict(type='nms', iou_threshold=0.5), 0.5),
        (dict(type='nms', iou_thr=0.4), 0.4),
        (dict(type='soft_nms', min_score=0.01), 0.3),
        (dict(type='nms'), None),
    ],
)
def test_the_threshold_of_the_suppression(nms, expected):
    if expected is None:
        with pytest.raises(ValueError, match='test_cfg.nms has no iou_threshold'):
            suppression_iou(nms)
    else:
        assert suppression_iou(nms) == expected


def test_a_damaged_image_is_named(config, checkpoint, tmp_path, refused, tool):
    (tmp_path / 'a.jpg').write_bytes(b'no image')
    (tmp_path / 'b.jpg').touch()
    for name in 'ab':
        text = refused(
            tool('export'),
            config,
            checkpoint,
            '--out',
            tmp_path,
            '--images',
            tmp_path / f'{name}.jpg',
        )
        assert f'{name}.jpg: cannot be read' in text


def test_the_state_of_a_loss_is_not_needed(config, checkpoint, tmp_path):
    content = torch.load(checkpoint)
    content['bbox_head.loss_obj.running_sums'] = torch.zeros(2)
    torch.save(content, tmp_path / 'adaptive.pth')
    cfg = Config.fromfile(config)
    load_yolov2(cfg, tmp_path / 'adaptive.pth')
    cfg.model.bbox_head.loss_obj = dict(type='AutomatedFocalLoss')
    load_yolov2(cfg, checkpoint)
    content['bbox_head.surplus'] = torch.zeros(2)
    torch.save(content, tmp_path / 'surplus.pth')
    with pytest.raises(ValueError, match='bbox_head.surplus'):
        load_yolov2(cfg, tmp_path / 'surplus.pth')


def test_the_smallest_size(config, checkpoint, tmp_path):
    """The example with which shapes are left free must have more than one cell."""
    detector = load_yolov2(Config.fromfile(config), checkpoint)
    export_torch(DecodedNetwork(detector), tmp_path / 'small.pt2', (32, 32))
    runner = torch_runner(tmp_path / 'small.pt2', detector)
    assert compare(detector, runner, [torch.rand(2, 3, 64, 96)]).equal


def test_cells_of_16_pixels(config):
    cfg = Config.fromfile(config)
    head = dict(in_channels=32, anchor_generator=dict(stride=16))
    cfg.merge_from_dict(dict(model=dict(backbone=dict(out_indices=(4,)), bbox_head=head)))
    detector = MODELS.build(cfg.model).eval()
    torch.nn.init.normal_(detector.bbox_head.conv_pred.weight, std=0.5)
    network = DecodedNetwork(detector)

    def predict(images):
        return with_nms(*network(images), detector.bbox_head, (64, 96))

    found = compare(detector, predict, [torch.rand(2, 3, 64, 96)])
    assert found.equal and found.boxes == 10
    about = describe(cfg, detector, ('red', 'blue'), (96, 64))
    assert about['map']['stride'] == 16
    np.testing.assert_allclose(
        about['map']['anchors'], cfg.model.bbox_head.anchor_generator.anchors
    )


def test_comparison_sees_differences():
    def boxes(score=0.5, shift=0.0, label=0):
        return InstanceData(
            bboxes=torch.tensor([[10.0, 10, 50, 50], [20, 20, 30, 30]]) + shift,
            scores=torch.tensor([0.9, score]),
            labels=torch.tensor([1, label]),
        )

    def of(first, second):
        found = Comparison()
        found.add(first, second, 100, 0.1)
        return found

    assert of(boxes(), boxes()).equal
    assert of(boxes(), boxes(score=0.50005)).equal
    near = of(boxes(), boxes(score=0.5005))
    assert not near.equal and near.unmatched == 0 and near.score == pytest.approx(5e-4, rel=1e-3)
    assert of(boxes(), boxes(shift=0.05)).box == pytest.approx(5e-4, rel=1e-3)
    assert of(boxes(), boxes(shift=1.0)).unmatched == 4
    assert of(boxes(), boxes(label=1)).unmatched == 2
    assert of(boxes(), boxes()[:1]).unmatched == of(boxes()[:1], boxes()).unmatched == 1
    assert of(boxes(), boxes()[:0]).unmatched == 2
    # At the threshold rounding decides.
    assert of(boxes(score=0.10005), boxes()[:1]).unmatched == 0


def test_a_wrong_file_is_an_error(config, checkpoint, tmp_path, tool, monkeypatch):
    from mmdet_yolo2fl import export

    def other(network, path, size):
        network.head.conv_pred.bias.data += 0.01
        torch_export(network, path, size)
        network.head.conv_pred.bias.data -= 0.01

    torch_export = export.export_torch
    monkeypatch.setattr(export, 'export_torch', other)
    with pytest.raises(SystemExit, match='squares.pt2: not what PyTorch finds'):
        tool('export')([str(config), str(checkpoint), '--out', str(tmp_path), '--formats', 'torch'])


def test_soft_nms_becomes_plain(config, checkpoint, tmp_path):
    soft = 'dict(type="soft_nms", iou_threshold=0.3, min_score=0.001)'
    (tmp_path / 'soft.py').write_text(
        f"_base_ = '{config}'\nmodel = dict(test_cfg=dict(nms=dict(_delete_=True, **{soft})))\n"
    )
    formats = ('--formats', 'onnx-nms', 'onnx', '--num-images', '2')
    printed = export(tmp_path / 'soft.py', checkpoint, '--out', tmp_path, *formats)
    assert 'soft_nms: the files are checked with plain NMS at 0.3' in printed
    assert printed.count('in 2 images') == 2 and ' 0 boxes' not in printed
    assert json.loads((tmp_path / 'soft.json').read_text())['nms_iou_threshold'] == 0.3


def test_how_images_come_to_the_size(config):
    cfg = Config.fromfile(config)

    def how(**step):
        dataset = dict(pipeline=[dict(type='LoadImageFromFile'), *([step] if step else [])])
        cfg.test_dataloader.dataset = dict(type='Wrapper', dataset=dataset)
        return tuple(how_resized(cfg).values())

    assert how() == ('none', 'none')
    assert how(type='Resize', scale=(8, 8)) == ('stretch', 'bilinear')
    assert how(type='mmdet.Resize', interpolation='area') == ('stretch', 'area')
    assert how(type=DarknetResize, letterbox=False) == ('stretch', 'darknet')
    assert resize_note(cfg).endswith('--resize stretch')
    assert how(type='Resize', keep_ratio=True)[0] == 'keep the ratio, at the top left corner'
    letterbox = 'letterbox: keep the ratio, centred on grey (127.5)'
    assert how(type='DarknetResize') == (letterbox, 'darknet')
    stretched = dict(type='DarknetResize', letterbox=False)
    assert how(**stretched) == ('stretch', 'darknet')
    assert how(**stretched, interpolation='opencv') == ('stretch', 'bilinear')
    back = 'Back: tools/darknet2mmdet.py --resize stretch --interpolation opencv'
    assert resize_note(cfg).endswith(back)
    how(type='DarknetResize')
    assert 'letterbox' in resize_note(cfg) and 'Back' not in resize_note(cfg)


def test_the_examples_refuse_another_interpolation(exported, tmp_path):
    out, *_, data_root = exported
    about = json.loads((out / 'squares.json').read_text())
    about['input']['interpolation'] = 'darknet'
    (tmp_path / 'squares.json').write_text(json.dumps(about))
    for example, kind in (('onnx_runtime', '_nms'), ('opencv_dnn', '')):
        shutil.copy(out / f'squares{kind}.onnx', tmp_path)
        with pytest.raises(subprocess.CalledProcessError) as failed:
            run_example(example, tmp_path, 'squares', data_root / '1.png', tmp_path / 'drawn.png')
        assert 'not: stretch, darknet' in failed.value.stderr


def test_suppression_among_all_classes(config, checkpoint, tmp_path, tool, refused):
    """ONNX has none; of soft NMS, too, it stays when it becomes plain."""
    file = tmp_path / 'all.py'
    nms = 'dict(_delete_=True, type="soft_nms", iou_threshold=0.3, class_agnostic=True)'
    file.write_text(f"_base_ = '{config}'\nmodel = dict(test_cfg=dict(nms={nms}))\n")
    common = [file, checkpoint, '--out', tmp_path / 'out', '--num-images', '2']
    message = refused(tool('export'), *common, '--formats', 'onnx-nms')
    assert 'class_agnostic: ONNX suppresses within each class' in message
    printed = export(*common, '--formats', 'onnx')
    assert 'in 2 images' in printed and ' 0 boxes' not in printed
    assert json.loads((tmp_path / 'out/all.json').read_text())['class_agnostic'] is True
    args = SimpleNamespace(all=True, formats=('onnx', 'onnx-nms'))
    parts = tool('export').__globals__
    parts['suppression_within_classes'](args, parts['ConfigDict'](nms=dict(class_agnostic=True)))
    assert args.formats == ('onnx',)


def test_photos_of_several_shapes(config, checkpoint, tmp_path):
    """The file of one size is compared on those of its size, and says on how many."""
    for name, shape in (('a', (60, 90)), ('b', (90, 60)), ('c', (60, 90))):
        noise = np.random.default_rng(0).integers(0, 256, (*shape, 3), np.uint8)
        cv2.imwrite(str(tmp_path / f'{name}.png'), noise)
    file = tmp_path / 'ratio.py'
    file.write_text(
        f"_base_ = '{config}'\ntest_pipeline = [dict(type='LoadImageFromFile'), "
        "dict(type='Resize', scale=(96, 64), keep_ratio=True), dict(type='PackDetInputs')]\n"
        'test_dataloader = dict(dataset=dict(pipeline=test_pipeline))\n'
    )
    images = [tmp_path / f'{name}.png' for name in 'abc']
    arguments = ('--out', tmp_path / 'out', '--formats', 'onnx', '--images', *images)
    printed = export(file, checkpoint, *arguments)
    assert 'ratio.onnx is for 96x64, the size of the first image' in printed
    assert 'boxes in 2 images' in printed


def test_a_pytorch_that_can_write_darknets_files_only(
    config, checkpoint, tmp_path, tool, refused, monkeypatch
):
    monkeypatch.setattr(torch, '__version__', '2.4.1+cpu')
    main, out = tool('export'), ['--out', tmp_path]
    message = 'PyTorch 2.4.1+cpu cannot write these: --formats darknet'
    assert message in refused(main, config, checkpoint, *out)
    assert message in refused(main, config, checkpoint, *out, '--formats', 'onnx', 'darknet')
    main([str(arg) for arg in (config, checkpoint, *out, '--formats', 'darknet')])
    assert (tmp_path / 'squares.weights').exists()


def test_usage_errors(config, checkpoint, data_root, tmp_path, tool, refused):
    main, out = tool('export'), ['--out', tmp_path / 'out', '--formats', 'darknet']
    assert 'none.py' in refused(main, 'none.py', checkpoint, *out)
    assert 'none.pth does not exist' in refused(main, config, 'none.pth', *out)
    assert 'multiples of 32' in refused(main, config, checkpoint, *out, '--size', '100', '64')
    assert '--num-images' in refused(main, config, checkpoint, *out, '--num-images', '0')
    assert 'no such file' in refused(main, config, checkpoint, *out, '--images', 'none.png')
    (tmp_path / 'other.py').write_text(
        f"_base_ = '{config}'\nmodel = dict(backbone=dict(widen_factor=0.25))\n"
    )
    message = refused(main, tmp_path / 'other.py', checkpoint, *out)
    assert 'does not fit' in message and 'more)' in message
    evil = tmp_path / 'evil.pth'
    torch.save(dict(state_dict=Hostile(tmp_path / 'mark')), evil)
    assert 'untrusted pickle' in refused(main, config, evil, *out)
    assert not (tmp_path / 'mark').exists()
