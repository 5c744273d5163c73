"""The padding in front of a pooling is the pooling's own, where that is the same."""

import numpy as np
import pytest

onnx = pytest.importorskip('onnx', reason="needs pip install 'mmdet_yolo2fl[export]'")
ort = pytest.importorskip('onnxruntime', reason="needs pip install 'mmdet_yolo2fl[export]'")

from onnx import TensorProto, helper, numpy_helper  # noqa: E402

from mmdet_yolo2fl.export.tidy import tidy  # noqa: E402


def graph(mode='edge', amounts=(0, 0, 0, 0, 0, 0, 1, 1), other_reader=False, kernel=2):
    nodes = [
        helper.make_node('Pad', ['images', 'amounts'], ['padded'], mode=mode),
        helper.make_node(
            'MaxPool', ['padded'], ['map'], kernel_shape=[kernel] * 2, pads=[0] * 4, strides=[1, 1]
        ),
    ]
    if other_reader:
        nodes.append(helper.make_node('Relu', ['padded'], ['other']))
    for node in nodes:
        node.metadata_props.add(key='stack_trace', value='/home/me/network.py')
    outputs = ['map', 'other'] if other_reader else ['map']
    model = helper.make_model(
        helper.make_graph(
            nodes,
            'graph',
            [helper.make_tensor_value_info('images', TensorProto.FLOAT, [1, 2, 'rows', 'columns'])],
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
            [numpy_helper.from_array(np.array(amounts), 'amounts')],
        ),
        opset_imports=[helper.make_opsetid('', 18)],
    )
    model.ir_version = 9
    return model


def run(model, image):
    session = ort.InferenceSession(model.SerializeToString(), providers=['CPUExecutionProvider'])
    return session.run(None, dict(images=image))


@pytest.mark.parametrize('size', [(15, 20), (7, 5), (8, 6), (9, 'columns')])
@pytest.mark.parametrize('kernel, pads', [(2, [0, 0, 0, 0]), (3, [1, 1, 0, 0])])
def test_what_ceil_mode_adds_becomes_padding(size, kernel, pads):
    def make():
        node = helper.make_node(
            'MaxPool',
            ['images'],
            ['map'],
            kernel_shape=[kernel] * 2,
            pads=pads,
            strides=[2, 2],
            ceil_mode=1,
        )
        images = helper.make_tensor_value_info('images', TensorProto.FLOAT, [1, 2, *size])
        found = helper.make_tensor_value_info('map', TensorProto.FLOAT, None)
        graph = helper.make_graph([node], 'graph', [images], [found])
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid('', 18)])
        model.ir_version = 9
        return model

    sides = [side if isinstance(side, int) else 11 for side in size]
    image = -np.random.default_rng(0).random((1, 2, *sides), np.float32)
    (expected,) = run(make(), image)
    model = tidy(make())
    ceil = next(one.i for one in model.graph.node[0].attribute if one.name == 'ceil_mode')
    assert ceil == ('columns' in size) and model.ir_version == 8
    np.testing.assert_array_equal(run(model, image)[0], expected)


@pytest.mark.parametrize(
    'options, merged',
    [
        (dict(), True),
        (dict(amounts=(0, 0, 1, 0, 0, 0, 1, 0)), True),
        (dict(mode='constant'), False),  # zeros, which may be the maximum
        (dict(amounts=(0, 1, 0, 0, 0, 0, 1, 1)), False),  # a channel more
        (dict(amounts=(0, 0, 0, 0, 0, 0, 2, 2)), False),  # windows of padding alone
        (dict(other_reader=True), False),
    ],
    ids=str,
)
def test_the_result_stays(options, merged):
    image = -np.random.default_rng(0).random((1, 2, 5, 7), np.float32)  # below zero
    expected = run(graph(**options), image)
    model = tidy(graph(**options))
    operators = [node.op_type for node in model.graph.node]
    assert ('Pad' not in operators) == merged
    assert len(model.graph.initializer) == (0 if merged else 1)
    assert b'/home/me' not in model.SerializeToString()
    for one, other in zip(run(model, image), expected, strict=True):
        np.testing.assert_array_equal(one, other)
