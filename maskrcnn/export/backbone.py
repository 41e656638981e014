"""From uint8 images to C2..C5."""

import numpy as np

from maskrcnn.config import BackboneConfig, ImageConfig
from maskrcnn.export.folding import FoldedWeights, convolution
from maskrcnn.export.graph import Graph, Value

STAGES = range(2, 6)  # C2..C5


def normalize(graph: Graph, images: Value, image_sizes: Value, config: ImageConfig) -> Value:
    """RGB uint8 [B, H, W, 3] -> float32 [B, 3, H, W] of zero mean and unit deviation, 0 outside the image.

    Args:
        graph: gets the nodes.
        images: the canvases.
        image_sizes: [B, 2] height and width of the part that the image fills, px.
        config: mean, deviation, and the channels' order.
    """
    mean, std = (np.array(values, np.float32).reshape(3, 1, 1) for values in (config.mean, config.std))
    images = graph.cast(images, np.float32)  # first of all: TensorRT has no other operation for uint8
    x = (graph("Transpose", images, perm=[0, 3, 1, 2]) - mean) / std
    height, width = graph.node("Split", [graph.unsqueeze(image_sizes, 2, 3)], 2, axis=1)  # [B, 1, 1, 1]
    rows = graph.cast(graph.arange(graph.size(images, 1)), np.float32)
    columns = graph.cast(graph.arange(graph.size(images, 2)), np.float32)
    inside = (graph.unsqueeze(rows, -1) < height) & (columns < width)  # [B, 1, H, W]
    x = graph("Where", inside, x, 0.0)
    return graph("Gather", x, np.array([2, 1, 0]), axis=1) if config.bgr else x


def resnet(graph: Graph, weights: FoldedWeights, images: Value, config: BackboneConfig) -> list[Value]:
    """Normalized images -> C2..C5; depth and width are those of the weights."""
    x = convolution(graph, weights, images, "resnet/stem", strides=2, relu=True)
    x = graph("MaxPool", x, kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4)
    outputs = []
    for stage in STAGES:
        for index in range(weights.count(f"resnet/c{stage}_block{{}}_conv1", first=0)):
            strides = 2 if stage > 2 and index == 0 else 1
            x = _block(graph, weights, x, f"resnet/c{stage}_block{index}", strides, config.stride_in_1x1)
        outputs.append(x)
    return outputs


def _block(graph: Graph, weights: FoldedWeights, x: Value, name: str, strides: int, stride_in_1x1: bool) -> Value:
    """A bottleneck (ResNet, Fig. 5) or, without a third convolution, a basic block, which has no 1x1 to stride in."""
    convolutions = weights.count(f"{name}_conv{{}}")
    strided = 2 if convolutions == 3 and not stride_in_1x1 else 1
    y = x
    for number in range(1, convolutions + 1):
        y = convolution(
            graph,
            weights,
            y,
            f"{name}_conv{number}",
            strides=strides if number == strided else 1,
            relu=number < convolutions,
        )
    if f"{name}_shortcut" in weights:
        x = convolution(graph, weights, x, f"{name}_shortcut", strides=strides)
    return graph("Relu", y + x)
