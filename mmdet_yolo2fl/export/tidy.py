"""Takes out of an exported ONNX graph what small processors cannot run and nobody needs."""

from onnx import ModelProto, NodeProto, numpy_helper, shape_inference

# Of ONNX 1.13, as opset 18: compilers of small processors refuse files of a later version.
IR_VERSION = 8


def tidy(model: ModelProto) -> ModelProto:
    """Change a graph in place, and not what it computes.

    The pooling of stride 1 in Tiny YOLOv2 comes as a ``Pad`` that repeats the border, followed by a
    ``MaxPool``. ``MaxPool`` has padding of its own, which never is the maximum: the same, and
    what every compiler knows. So is it with ``ceil_mode``, which some ignore: where the size of the
    map is known, the rows and columns that it adds become padding too. The exporter also leaves a
    stack trace at every node, with the paths of the machine that it ran on, and a version of the
    format that is later than what is in the file.

    Args:
        model (ModelProto): As ``torch.onnx.export`` makes it.

    Returns:
        ModelProto: The same.
    """
    graph = model.graph
    model.ir_version = min(model.ir_version, IR_VERSION)
    values = {one.name: one for one in graph.initializer}
    readers = {}
    for node in graph.node:
        del node.metadata_props[:]
        for name in node.input:
            readers.setdefault(name, []).append(node)
    for pad in [node for node in graph.node if node.op_type == 'Pad']:
        mode = next((one.s for one in pad.attribute if one.name == 'mode'), b'constant')
        (first, *others), constant = readers[pad.output[0]], values.get(pad.input[1])
        if mode != b'edge' or constant is None or others or first.op_type != 'MaxPool':
            continue
        # At the start of batch, channels, rows, columns; then at their ends.
        amounts = numpy_helper.to_array(constant).tolist()
        spatial = [*amounts[2:4], *amounts[6:8]]
        own = {one.name: one for one in first.attribute}
        # A window with nothing but padding in it would have no maximum.
        small = max(spatial) < min(own['kernel_shape'].ints)
        if any(own['pads'].ints) or any(amounts[:2] + amounts[4:6]) or not small:
            continue
        own['pads'].ints[:] = spatial
        first.input[0] = pad.input[0]
        graph.node.remove(pad)
        readers[constant.name].remove(pad)
        if not readers[constant.name]:
            graph.initializer.remove(constant)
    shapes = _shapes(model)
    for node in graph.node:
        if node.op_type == 'MaxPool':
            _pad_in_place_of_ceil(node, shapes)
    return model


def _shapes(model: ModelProto) -> dict[str, list[int]]:
    """The shape of each value; a side that is not known is 0."""
    graph = shape_inference.infer_shapes(model).graph
    return {
        value.name: [side.dim_value for side in value.type.tensor_type.shape.dim]
        for value in (*graph.input, *graph.value_info, *graph.output)
    }


def _pad_in_place_of_ceil(pool: NodeProto, shapes: dict[str, list[int]]) -> None:
    own = {one.name: one for one in pool.attribute}
    before, after = (shapes.get(name, [])[2:] for name in (pool.input[0], pool.output[0]))
    is_known = bool(before and after) and all(before) and all(after)
    if not is_known or 'ceil_mode' not in own or not own['ceil_mode'].i:
        return
    kernel, strides, pads = (list(own[key].ints) for key in ('kernel_shape', 'strides', 'pads'))
    for axis, (size, count) in enumerate(zip(before, after)):
        reach = (count - 1) * strides[axis] + kernel[axis]
        missing = reach - size - pads[axis] - pads[axis + len(before)]
        pads[axis + len(before)] += max(0, missing)
    own['pads'].ints[:] = pads
    own['ceil_mode'].i = 0
