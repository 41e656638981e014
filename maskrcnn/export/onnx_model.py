"""A whole Mask R-CNN as an ONNX model, from its config and weights."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

from maskrcnn.config import Config
from maskrcnn.errors import UserError
from maskrcnn.export.backbone import normalize, resnet
from maskrcnn.export.box_head import Detections, box_head, detect
from maskrcnn.export.folding import FoldedWeights
from maskrcnn.export.fpn import fpn
from maskrcnn.export.graph import Graph, Value
from maskrcnn.export.mask_head import masks
from maskrcnn.export.metadata import describe
from maskrcnn.export.roi_align import RoIs, roi_align
from maskrcnn.export.rpn import propose
from maskrcnn.inference.exported import OUTPUTS

Backbone = Callable[[Graph, Value], list[Value]]


@dataclass(frozen=True)
class InputShape:
    """What a file takes: None is any number."""

    batch: int | None = 1
    height: int | None = None
    width: int | None = None


def build_onnx(
    config: Config,
    weights: Mapping[str, NDArray[Any]],
    shape: InputShape,
    *,
    backbone: Backbone | None = None,
    static: bool = False,
) -> onnx.ModelProto:
    """Writes the graph: the inputs and outputs of `MaskRCNN` with ``training=False``, images as uint8.

    Args:
        config: of the model.
        weights: by the names of `maskrcnn.weights.variables.model_variables`.
        shape: of the images.
        backbone: adds the nodes from normalized images to C2..C5; None is the config's ResNet.
        static: see `Graph`; slower in ONNX Runtime, and needs the whole shape.

    Raises:
        UserError: weights that are no part of this architecture, such as those of another backbone.
    """
    graph = Graph(static=static)
    folded = FoldedWeights(weights, config.model.norm.epsilon)
    detections, probabilities = _detect(graph, folded, config, backbone)
    unread = [name for name in folded.unread() if not (backbone and name.startswith("resnet/"))]
    if unread:
        raise UserError(f"{len(unread)} weights belong to no layer that can be exported, such as {unread[0]}")
    outputs = {**detections._asdict(), "masks": probabilities}
    outputs["classes"] = graph.cast(detections.classes, np.int32)
    for name in OUTPUTS:
        graph("Identity", outputs[name], name=name)
    model = graph.model(_inputs(shape), _outputs(config, shape), describe(config, weights))
    onnx.checker.check_model(model, full_check=True)
    return model


def _detect(
    graph: Graph, weights: FoldedWeights, config: Config, backbone: Backbone | None
) -> tuple[Detections, Value]:
    """`MaskRCNN.detect`, stage by stage."""
    model = config.model
    images, image_sizes = Value(graph, "images"), Value(graph, "image_sizes")
    pixels = normalize(graph, images, image_sizes, model.image)
    features = backbone(graph, pixels) if backbone else resnet(graph, weights, pixels, model.backbone)
    pyramid = fpn(graph, weights, features)
    proposals = propose(graph, weights, pyramid, image_sizes, (model.rpn, model.anchors))

    boxes = graph.reshape(proposals.boxes, -1, 4)
    owners = graph.arange(graph.size(boxes, 0)) // np.int64(proposals.count)
    pooled = roi_align(graph, pyramid, RoIs(boxes, owners), model.box_head.pool_size, model.roi_align)
    outputs = box_head(graph, weights, pooled, model.box_head, proposals.count)
    detections = detect(graph, outputs, proposals, image_sizes, model.box_head, weights.num_classes)
    settings = (model.mask_head, model.roi_align, model.box_head.detections)
    return detections, masks(graph, weights, pyramid, detections, settings)


def _inputs(shape: InputShape) -> list[onnx.ValueInfoProto]:
    batch = shape.batch or "batch"
    canvas = [batch, shape.height or "height", shape.width or "width", 3]
    return [
        helper.make_tensor_value_info("images", TensorProto.UINT8, canvas),
        helper.make_tensor_value_info("image_sizes", TensorProto.FLOAT, [batch, 2]),
    ]


def _outputs(config: Config, shape: InputShape) -> list[onnx.ValueInfoProto]:
    slots = [shape.batch or "batch", config.model.box_head.detections]
    side = 2 * config.model.mask_head.pool_size
    kinds = {
        "boxes": (TensorProto.FLOAT, [*slots, 4]),
        "classes": (TensorProto.INT32, slots),
        "scores": (TensorProto.FLOAT, slots),
        "masks": (TensorProto.FLOAT, [*slots, side, side]),
        "valid": (TensorProto.BOOL, slots),
    }
    return [helper.make_tensor_value_info(name, *kinds[name]) for name in OUTPUTS]
