"""The nodes of a file of `build_onnx` that may compute in reduced precision.

The layers that give the objectness, the classes and the boxes stay float32, and so does all that is neither a layer nor
between two reduced ones: RoIAlign, suppression, decoding, softmax, the masks' last layer.
"""

import onnx

LAYERS = ("Conv", "ConvTranspose", "Gemm")
BETWEEN = ("Relu", "Add", "MaxPool", "Resize")  # reduced if all of their inputs are, so that nothing is in between
FLOAT = ("rpn/objectness", "rpn/deltas", "box_head/classes", "box_head/deltas")


def reduced_nodes(model: onnx.ModelProto) -> list[str]:
    """Names of the nodes, in the graph's order."""
    producers = {output: node.name for node in model.graph.node for output in node.output}
    names: dict[str, None] = {}
    for node in model.graph.node:
        sources = [producers[name] for name in node.input if name in producers]
        is_layer = node.op_type in LAYERS and not node.name.startswith(FLOAT)
        is_between = node.op_type in BETWEEN and all(source in names for source in sources)
        if is_layer or (is_between and len(sources) == (2 if node.op_type == "Add" else 1)):
            names[node.name] = None
    return list(names)
