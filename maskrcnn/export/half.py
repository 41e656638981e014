"""ONNX files whose layers compute in float16 or bfloat16, between casts; boxes stay float32: px have 11 or 8 bits.

The converters of ONNX Runtime and onnxconverter-common put casts around each operator, and the nodes in no valid order
where single nodes are excluded.
"""

import onnx
from onnx import TensorProto, helper, numpy_helper

from maskrcnn.export.reduced import reduced_nodes


def compute_in_half(model: onnx.ModelProto, precision: str) -> onnx.ModelProto:
    """Another form of a file of `build_onnx`: its layers and their weights in "float16" or "bfloat16"."""
    half = getattr(TensorProto, precision.upper())
    dtype = helper.tensor_dtype_to_np_dtype(half)
    reduced = set(reduced_nodes(model))
    graph = model.graph
    constants = {tensor.name: tensor for tensor in graph.initializer}
    halves = {output for node in graph.node if node.name in reduced for output in node.output}
    nodes: list[onnx.NodeProto] = []
    made: set[str] = set()

    def in_half(name: str) -> str:
        if name in constants:
            converted = f"{name}/half"
            if converted not in constants:
                array = numpy_helper.to_array(constants[name]).astype(dtype)
                constants[converted] = numpy_helper.from_array(array, converted)
            return converted
        return name if name in halves else cast(name, half)

    def cast(name: str, to: int) -> str:
        converted = f"{name}/cast"
        if converted not in made:
            nodes.append(helper.make_node("Cast", [name], [converted], name=converted, to=to))
            made.add(converted)
        return converted

    for node in graph.node:
        if node.name in reduced:
            values = 1 if node.op_type == "Resize" else len(node.input)  # the others are its scales
            inputs = [*map(in_half, node.input[:values]), *node.input[values:]]
        else:
            inputs = [cast(name, TensorProto.FLOAT) if name in halves else name for name in node.input]
        nodes.append(helper.make_node(node.op_type, inputs, node.output, node.name))
        nodes[-1].attribute.extend(node.attribute)
    used = {name for node in nodes for name in node.input}
    tensors = [tensor for name, tensor in constants.items() if name in used]
    return _with_nodes(model, nodes, tensors, precision)


def _with_nodes(
    model: onnx.ModelProto, nodes: list[onnx.NodeProto], tensors: list[onnx.TensorProto], precision: str
) -> onnx.ModelProto:
    graph = helper.make_graph(nodes, model.graph.name, model.graph.input, model.graph.output, tensors)
    result = helper.make_model(
        graph, opset_imports=model.opset_import, ir_version=model.ir_version, producer_name=model.producer_name
    )
    helper.set_model_props(result, {**{e.key: e.value for e in model.metadata_props}, "precision": precision})
    # Of bfloat16, the checker's types know no convolution before opset 22.
    onnx.checker.check_model(result, full_check=precision == "float16")
    return result
