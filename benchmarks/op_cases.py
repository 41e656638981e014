"""What `benchmarks.ops` times: each operation with arguments as the 832x1344 model gives it.

B images, N boxes, A anchors, G ground-truth slots, C channels, D detections, M mask side.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops

from maskrcnn.config import AnchorConfig, Config
from maskrcnn.model.box_head import BoxHead
from maskrcnn.model.rpn import RPN
from maskrcnn.model.structures import Proposals, RPNOutputs, Targets
from maskrcnn.ops.fast.winograd import convolve3x3
from maskrcnn.ops.masks import crop_masks
from maskrcnn.ops.nms import nms, suppress
from maskrcnn.ops.roi_align import multilevel_roi_align

Case = tuple[Callable[..., Any], tuple[Any, ...]]  # a function and its arguments, on the device
CLASSES = 91


class Sizes(NamedTuple):
    batch: int
    precision: str = "float32"  # of features
    height: int = 832
    width: int = 1344
    channels: int = 256
    divisor: int = 1  # of the numbers of boxes

    def boxes(self, count: int, rng: np.random.Generator) -> np.ndarray:
        """[B, count, 4]: sides log-uniform from 16 px to the image's, in clusters that overlap, as proposals do."""
        objects = 40
        sides = np.exp(rng.uniform(np.log(16), np.log([self.width, self.height]), (self.batch, objects, 2)))
        centers = rng.uniform(0, [self.width, self.height], (self.batch, objects, 2))
        chosen = rng.integers(0, objects, (self.batch, count, 1))
        sides = np.take_along_axis(sides, chosen, 1) * np.exp(rng.normal(0, 0.3, (self.batch, count, 2)))
        centers = np.take_along_axis(centers, chosen, 1) + sides * rng.normal(0, 0.2, (self.batch, count, 2))
        corners = np.concatenate([centers - sides / 2, centers + sides / 2], -1)
        return corners.clip(0, [self.width, self.height] * 2).astype(np.float32)

    def pyramid(self, rng: np.random.Generator) -> list[np.ndarray]:
        """P2..P5 of [B, H / 2^l, W / 2^l, C]."""
        shapes = [
            (self.batch, -(-self.height // 2**level), -(-self.width // 2**level), self.channels)
            for level in range(2, 6)
        ]
        return [rng.normal(size=shape).astype(np.float32) for shape in shapes]

    def count(self, number: int) -> int:
        return max(1, number // self.divisor)


def _on_device(*arrays: Any) -> tuple[Any, ...]:
    return tuple(ops.convert_to_tensor(array) for array in arrays)


def _suppress(candidates: int) -> Callable[[Sizes], Case]:
    def case(sizes: Sizes) -> Case:
        rng, count = np.random.default_rng(0), sizes.count(candidates)
        boxes = np.stack([sizes.boxes(count, rng) for _ in range(5)], 1)  # [B, 5, N, 4], one group a level
        valid = np.ones(boxes.shape[:-1], bool)
        return lambda boxes, valid: suppress(boxes, valid, iou_threshold=0.7), _on_device(boxes, valid)

    return case


def _class_nms(sizes: Sizes) -> Case:
    rng, count = np.random.default_rng(0), sizes.count(2000)
    boxes, scores = sizes.boxes(count, rng), rng.uniform(size=(sizes.batch, count)).astype(np.float32)
    classes = rng.integers(1, CLASSES, scores.shape).astype(np.int32)

    def function(boxes: Any, scores: Any, classes: Any) -> Any:
        return nms(boxes, scores, scores > 0.05, iou_threshold=0.5, max_outputs=min(100, count), groups=classes)

    return function, _on_device(boxes, scores, classes)


def _roi_align(number: int, size: int) -> Callable[[Sizes], Case]:
    def case(sizes: Sizes) -> Case:
        rng = np.random.default_rng(0)
        boxes = ops.convert_to_tensor(sizes.boxes(sizes.count(number), rng))
        features = [ops.cast(feature, sizes.precision) for feature in sizes.pyramid(rng)]
        return lambda boxes, *features: multilevel_roi_align(features, boxes, output_size=size), (boxes, *features)

    return case


def _roi_align_backward(number: int, size: int) -> Callable[[Sizes], Case]:
    """The gradient of the features alone: the operation is linear in them, so that the compiler drops the forward."""

    def case(sizes: Sizes) -> Case:
        forward, (boxes, *features) = _roi_align(number, size)(sizes)
        shape = (sizes.batch, sizes.count(number), size, size, sizes.channels)
        upstream = ops.cast(np.random.default_rng(1).normal(size=shape).astype(np.float32), sizes.precision)

        def loss(features: Any, boxes: Any, upstream: Any) -> Any:
            return ops.sum(ops.cast(forward(boxes, *features) * upstream, "float32"))

        return _gradient(loss), (features, boxes, upstream)

    return case


def _convolution(function: Callable[..., Any], level: int, *, backward: bool = False) -> Callable[[Sizes], Case]:
    """3x3 of all channels to as many, on P_l; backward: the gradients of the map and of the kernel."""

    def case(sizes: Sizes) -> Case:
        rng = np.random.default_rng(0)
        features = sizes.pyramid(rng)[level - 2]
        kernel = (rng.normal(size=(3, 3, sizes.channels, sizes.channels)) / 50).astype(np.float32)
        upstream = ops.convert_to_tensor(rng.normal(size=features.shape).astype(np.float32))
        arguments = _on_device(features, kernel)
        if not backward:
            return function, arguments
        return _gradient(lambda arguments: ops.sum(function(*arguments) * upstream)), (arguments,)

    return case


def _all_products(maps: Any, kernel: Any) -> Any:
    return ops.conv(maps, kernel, 1, "same", data_format="channels_last")


def _gradient(loss: Callable[..., Any]) -> Callable[..., Any]:
    """The derivative of a scalar function by its first argument."""
    if keras.backend.backend() == "jax":
        import jax

        return jax.grad(loss)
    import tensorflow as tf

    def function(first: Any, *others: Any) -> Any:
        with tf.GradientTape() as tape:
            tape.watch(first)
            value = loss(first, *others)
        return [tf.convert_to_tensor(gradient) for gradient in tape.gradient(value, first)]

    return function


def _targets(sizes: Sizes, rng: np.random.Generator) -> Targets:
    slots = max(2, sizes.count(100))
    valid = np.broadcast_to(np.arange(slots) < max(1, slots // 10), (sizes.batch, slots))
    boxes = sizes.boxes(slots, rng) * valid[..., None].astype(np.float32)
    masks = rng.integers(0, 2, (sizes.batch, slots, 112, 112)).astype(np.uint8)
    classes = rng.integers(1, CLASSES, valid.shape).astype(np.int32)
    return Targets(*_on_device(boxes, classes, masks, boxes, valid))


def _rpn_inputs(sizes: Sizes) -> tuple[RPN, Any, tuple[Any, Any]]:
    """The layer, its anchors, and outputs as an untrained RPN has them."""
    rpn = RPN(Config().model.rpn, AnchorConfig(), sizes.channels)
    rng = np.random.default_rng(0)
    shapes = [(-(-sizes.height // 2**level), -(-sizes.width // 2**level)) for level in range(2, 7)]
    anchors = rpn.anchors([np.zeros((1, *shape, 1)) for shape in shapes])
    counts = [int(level.shape[0]) for level in anchors]
    objectness = [rng.normal(0, 0.5, (sizes.batch, count)).astype(np.float32) for count in counts]
    deltas = [rng.normal(0, 0.1, (sizes.batch, count, 4)).astype(np.float32) for count in counts]
    return rpn, anchors, ([*_on_device(*objectness)], [*_on_device(*deltas)])


def _propose(*, training: bool) -> Callable[[Sizes], Case]:
    def case(sizes: Sizes) -> Case:
        rpn, anchors, outputs = _rpn_inputs(sizes)
        image_sizes = np.tile(np.array([sizes.height, sizes.width], np.float32), (sizes.batch, 1))

        def function(objectness: Any, deltas: Any, image_sizes: Any) -> Any:
            return rpn.propose(RPNOutputs(objectness, deltas, anchors, []), image_sizes, training=training)

        return function, (*outputs, *_on_device(image_sizes))

    return case


def _rpn_losses(sizes: Sizes) -> Case:
    rpn, anchors, _ = _rpn_inputs(sizes)
    rpn.build()
    targets, rng = _targets(sizes, np.random.default_rng(1)), np.random.default_rng(2)
    shapes = [(-(-sizes.height // 2**level), -(-sizes.width // 2**level)) for level in range(2, 7)]
    maps = [rng.normal(size=(sizes.batch, *shape, sizes.channels)).astype(np.float32) for shape in shapes]

    def function(pyramid: Any, targets: Any) -> Any:
        return rpn.losses(RPNOutputs([], [], anchors, pyramid), targets, seed=0)

    return function, ([*_on_device(*maps)], targets)


def _top_k(sizes: Sizes) -> Case:
    """One top-k over all anchors; the model takes one for each level."""
    rng, count = np.random.default_rng(0), sizes.height * sizes.width // 4
    keys = ops.convert_to_tensor(rng.normal(size=(sizes.batch, count)).astype(np.float32))
    return lambda keys: ops.top_k(keys, sizes.count(2000)), (keys,)


def _box_head(sizes: Sizes) -> BoxHead:
    config = Config().override({"fpn.channels": sizes.channels})
    return BoxHead(config.model, CLASSES)


def _sample_rois(sizes: Sizes) -> Case:
    rng, head = np.random.default_rng(0), _box_head(sizes)
    boxes = sizes.boxes(sizes.count(1000), rng)
    proposals = Proposals(*_on_device(boxes, boxes[..., 0], np.ones(boxes.shape[:2], bool)))
    return lambda proposals, targets: head.sample(proposals, targets, seed=0), (proposals, _targets(sizes, rng))


def _detect(sizes: Sizes) -> Case:
    rng, head = np.random.default_rng(0), _box_head(sizes)
    boxes = sizes.boxes(sizes.count(1000), rng)
    proposals = Proposals(*_on_device(boxes, boxes[..., 0], np.ones(boxes.shape[:2], bool)))
    logits = rng.normal(0, 2, (*boxes.shape[:2], CLASSES)).astype(np.float32)
    deltas = rng.normal(0, 0.5, (*boxes.shape[:2], CLASSES, 4)).astype(np.float32)
    image_sizes = np.tile(np.array([sizes.height, sizes.width], np.float32), (sizes.batch, 1))
    return head.detect, (*_on_device(logits, deltas), proposals, *_on_device(image_sizes))


def _crop_masks(sizes: Sizes) -> Case:
    rng, count = np.random.default_rng(0), sizes.count(128)
    frames = sizes.boxes(count, rng)
    boxes = frames + rng.normal(0, 4, frames.shape).astype(np.float32)
    masks = rng.integers(0, 2, (sizes.batch, count, 112, 112)).astype(np.uint8)

    def function(masks: Any, frames: Any, boxes: Any) -> Any:
        return crop_masks(masks, frames, boxes, output_size=28, max_samples=8)

    return function, _on_device(masks, frames, boxes)


CASES: dict[str, Callable[[Sizes], Case]] = {
    "convolution 3x3, P2, all products": _convolution(_all_products, 2),
    "convolution 3x3, P2, Winograd": _convolution(convolve3x3, 2),
    "convolution 3x3, P2, all products, backward": _convolution(_all_products, 2, backward=True),
    "convolution 3x3, P2, Winograd, backward": _convolution(convolve3x3, 2, backward=True),
    "suppress 5 x 2000 boxes (RPN, training)": _suppress(2000),
    "suppress 5 x 1000 boxes (RPN, inference)": _suppress(1000),
    "nms 2000 boxes by class (detections)": _class_nms,
    "roi_align 512 x 7x7": _roi_align(512, 7),
    "roi_align 512 x 7x7 backward": _roi_align_backward(512, 7),
    "roi_align 128 x 14x14": _roi_align(128, 14),
    "roi_align 128 x 14x14 backward": _roi_align_backward(128, 14),
    "roi_align 1000 x 7x7": _roi_align(1000, 7),
    "roi_align 100 x 14x14": _roi_align(100, 14),
    "top_k 2000 of 279,552": _top_k,
    "propose, training": _propose(training=True),
    "propose, inference": _propose(training=False),
    "rpn_losses: match 279,279 anchors, sample": _rpn_losses,
    "sample_rois: match 1100, sample 512": _sample_rois,
    "detect: decode, softmax, nms": _detect,
    "crop_masks 128 x 112x112 -> 28x28": _crop_masks,
}
