"""How much memory a training step will take on a device: an estimate before it is tried.

State is counted exactly. Activations are those of the layers that train, times a factor for what is kept beside the
outputs of convolutions (norms, ReLUs, gradients on their way, buffers of the compiler).
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from maskrcnn.config import Config, ModelConfig
from maskrcnn.imaging.canvas import canvas_size
from maskrcnn.model.resnet import BLOCKS, BOTTLENECK_EXPANSION

# XLA's own plan for ResNet-50 at 832x1344 in float32 has 2.55 GiB an image, the outputs 1.18; benchmarks/memory.py
ACTIVATION_FACTOR = 2.15
FLOAT_BYTES = 4  # of all state, in every precision
SLOTS = {"sgd": 1, "adam": 2}  # variables of the optimizer for each weight


class MemoryEstimate(NamedTuple):
    """Bytes on one device."""

    state: int  # weights, their gradients, the optimizer's variables
    image: int  # activations of one image

    def total(self, batch_size: int) -> int:
        return self.state + self.image * batch_size

    def describe(self, batch_size: int, limit: int | None) -> list[str]:
        """In words; with the remedy where a device has less, ``limit`` bytes."""
        state, image, total = (f"{value / 1e9:.1f} GB" for value in (*self, self.total(batch_size)))
        lines = [f"about {total} of memory a device: {state} for the weights, {image} for each of {batch_size} images"]
        if limit is not None and self.total(batch_size) > limit:
            lines.append(
                f"that is more than the {limit / 1e9:.1f} GB there are; lower --train_batch_size (and raise "
                "--accumulate), or use --precision bfloat16 or smaller images (--set image.min_side=... --set "
                "image.max_side=...)"
            )
        return lines


def estimate_memory(config: Config, variables: Sequence[Any], trained: Sequence[Any]) -> MemoryEstimate:
    """Of a training step of a model with these Keras variables, of which some are ``trained``."""
    weights, trained_weights = (sum(math.prod(variable.shape) for variable in some) for some in (variables, trained))
    train = config.train
    copies = 1 + SLOTS[train.optimizer] + (train.ema is not None) + (train.accumulate > 1)  # 1: the gradients
    state = FLOAT_BYTES * (weights + copies * trained_weights)
    activation_bytes = 2 if train.precision in ("float16", "bfloat16") else FLOAT_BYTES
    image = ACTIVATION_FACTOR * activation_bytes * activations(config.model, num_classes=config.num_classes)
    return MemoryEstimate(state, int(image))


def activations(model: ModelConfig, *, num_classes: int) -> int:
    """Numbers that the convolutions and dense layers which train put out for one image."""
    height, width = canvas_size(1, 2, model.image)
    pixels = [height * width // 4**level for level in range(7)]  # of level l, as in P_l
    total = sum(_stage(model, stage) * pixels[stage] for stage in range(2, 6) if stage > model.backbone.freeze_at)
    total += sum(2 * model.fpn.channels * pixels[level] for level in range(2, 6))  # FPN: 1x1 and 3x3
    total += sum(model.rpn.convolutions * model.fpn.channels * pixels[level] for level in range(2, 7))
    box, mask = model.box_head, model.mask_head
    pooled = box.pool_size**2 * (model.fpn.channels + box.convolutions * box.conv_channels)
    total += box.samples * (pooled + box.dense_layers * box.channels)
    small = mask.pool_size**2 * (model.fpn.channels + mask.convolutions * mask.channels)
    large = 4 * mask.pool_size**2 * (mask.channels + num_classes)
    return total + box.max_positives * (small + large)


def _stage(model: ModelConfig, stage: int) -> int:
    """Channels of all outputs in a stage of the backbone, for each of its pixels."""
    channels = model.backbone.width * 2 ** (stage - 2)
    blocks = BLOCKS[model.backbone.depth][stage - 2]
    if model.backbone.depth >= 50:  # 1x1, 3x3, 1x1, sum
        return blocks * (2 + 2 * BOTTLENECK_EXPANSION) * channels
    return blocks * 3 * channels  # 3x3, 3x3, sum
