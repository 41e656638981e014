"""ONNX graphs written node by node: an expression such as ``(x - mean) * scale`` adds the nodes that compute it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

OPSET = 17  # ONNX Runtime's CPU provider has no RoiAlign of opset 22
IR_VERSION = 8  # of the release that brought opset 17, so that older runtimes read the file


def _operator(name: str) -> Callable[["Value", Any], "Value"]:
    return lambda value, other: value.graph(name, value, other)


@dataclass(frozen=True, eq=False)
class Value:
    """A tensor of the graph. Operators take other values, NumPy arrays and scalars."""

    graph: "Graph"
    name: str

    __add__ = _operator("Add")
    __sub__ = _operator("Sub")
    __mul__ = _operator("Mul")
    __truediv__ = _operator("Div")
    __floordiv__ = _operator("Div")  # of integers that are not negative
    __mod__ = _operator("Mod")
    __and__ = _operator("And")
    __lt__ = _operator("Less")
    __gt__ = _operator("Greater")
    __ge__ = _operator("GreaterOrEqual")


class Graph:
    """Nodes and constants in the order in which they were added.

    Args:
        static: the sizes of tensors must not depend on their data, but for the survivors of a suppression.
    """

    def __init__(self, *, static: bool = False) -> None:
        self.static = static
        self._nodes: list[onnx.NodeProto] = []
        self._names: set[str] = set()
        self._constants: dict[tuple[str, tuple[int, ...], bytes], onnx.TensorProto] = {}

    def __call__(self, operator: str, *inputs: Any, name: str = "", **attributes: Any) -> Value:
        """Adds a node with one output."""
        return self.node(operator, inputs, 1, name=name, **attributes)[0]

    def node(self, operator: str, inputs: Sequence[Any], outputs: int, *, name: str = "", **attributes: Any):
        """Adds a node; arrays and scalars among its inputs become constants."""
        if not name or name in self._names:  # the RPN's layers are used on each level
            name = f"{name or operator}_{len(self._nodes)}"
        self._names.add(name)
        names = [name] if outputs == 1 else [f"{name}:{index}" for index in range(outputs)]
        sources = [self._source(value) for value in inputs]
        self._nodes.append(helper.make_node(operator, sources, names, name=name, **attributes))
        return [Value(self, output) for output in names]

    def _source(self, value: Any) -> str:
        if isinstance(value, Value):
            return value.name
        array = np.asarray(value)
        if isinstance(value, float):
            array = array.astype(np.float32)
        key = (array.dtype.str, array.shape, array.tobytes())
        if key not in self._constants:
            self._constants[key] = numpy_helper.from_array(array, f"constant_{len(self._constants)}")
        return self._constants[key].name

    def reshape(self, value: Value, *shape: int) -> Value:
        """Reshapes; 0 keeps a dimension, -1 is what remains."""
        return self("Reshape", value, np.array(shape, np.int64))

    def unsqueeze(self, value: Value, *axes: int) -> Value:
        """Adds dimensions of size 1."""
        return self("Unsqueeze", value, np.array(axes, np.int64))

    def size(self, value: Value, axis: int) -> Value:
        """The size of one dimension, int64 scalar."""
        return self("Gather", self("Shape", value), np.int64(axis), axis=0)

    def arange(self, count: Value) -> Value:
        """0, 1, .. up to ``count``, int64."""
        return self("Range", np.int64(0), count, np.int64(1))

    def cast(self, value: Value, dtype: type) -> Value:
        """Converts to a NumPy type."""
        return self("Cast", value, to=helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))

    def take_rows(self, values: Value, indices: Value) -> Value:
        """Rows of each image: [B, S, ...], int64 [B, K] -> [B, K, ...]."""
        return self("GatherND", values, self.unsqueeze(indices, -1), batch_dims=1)

    def model(
        self,
        inputs: Sequence[onnx.ValueInfoProto],
        outputs: Sequence[onnx.ValueInfoProto],
        metadata: dict[str, str],
    ) -> onnx.ModelProto:
        """The finished model."""
        graph = helper.make_graph(self._nodes, "mask_rcnn", inputs, outputs, list(self._constants.values()))
        model = helper.make_model(
            graph,
            opset_imports=[helper.make_opsetid("", OPSET)],
            ir_version=IR_VERSION,
            producer_name="maskrcnn",
            producer_version=metadata.get("version", ""),
        )
        helper.set_model_props(model, metadata)
        return model
