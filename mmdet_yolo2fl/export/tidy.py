"""Takes out of an exported ONNX graph what small processors cannot run and nobody needs."""

from onnx import ModelProto, numpy_helper


def tidy(model: ModelProto) -> ModelProto:
    """Change a graph in place, and not what it computes.

    The pooling of stride 1 in Tiny YOLOv2 comes as a ``Pad`` that repeats the border, followed by a
    ``MaxPool``. ``MaxPool`` has padding of its own, which never is the maximum: the same, and
    what every compiler knows. The exporter also leaves a stack trace at every node, with the
    paths of the machine that it ran on.

    Args:
        model (ModelProto): As ``torch.onnx.export`` makes it.

    Returns:
        ModelProto: The same.
    """
    graph = model.graph
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
    return model
