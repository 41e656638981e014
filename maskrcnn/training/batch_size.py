"""The batch that fits the memory of the device: ``--train_batch_size auto``."""

import logging

from maskrcnn.config import Config
from maskrcnn.errors import UserError
from maskrcnn.runtime.hardware import device_memory

MOST_ON_GPU, MOST_ON_CPU = 16, 4  # the reference's largest; on a CPU more images cost as much each
USABLE = {"cpu": 0.5, "gpu": 0.8}  # fraction of the memory that a training may take
# Measured with ResNet-50-FPN of 832x1344 px in float32 on a CPU: 4.1, 5.6, 8.6, 15.3 GB for batches of 1, 2, 4, 8
# (benchmarks/results/growth_cpu.json), so 1.6 GB an image beside weights, momentum and libraries.
FIXED_BYTES = 2.5e9
BYTES_PER_PIXEL = 1450

logger = logging.getLogger(__name__)


def bytes_per_image(config: Config) -> float:
    """The estimated memory that a training step takes for each image of its batch."""
    model = config.model
    pixels = model.image.min_side * model.image.max_side
    width = (model.backbone.width / 64 + model.fpn.channels / 256) / 2  # half the activations are the backbone's
    half = 0.5 if config.train.precision in ("float16", "bfloat16") else 1.0
    return pixels * BYTES_PER_PIXEL * width * half


def with_largest_batch(config: Config, *, on_cpu: bool) -> Config:
    """The config with the largest power of two of images whose estimated memory fits each device.

    The learning rate follows the batch, see `make_schedule`.

    Raises:
        UserError: the device does not tell its memory, or not even one image fits.
    """
    memory = device_memory(on_cpu=on_cpu)
    if memory is None:
        raise UserError("--train_batch_size auto: the memory of this device is not known; give a number of images")
    each = bytes_per_image(config)
    fitting = int((memory * USABLE["cpu" if on_cpu else "gpu"] - FIXED_BYTES) / each)
    if fitting < 1:
        raise UserError(
            f"--train_batch_size auto: an image takes some {each / 1e9:.2g} GB, too much for {memory / 1e9:.0f} GB; "
            "use smaller images (--set image.min_side=... --set image.max_side=...) or --precision bfloat16"
        )
    size = min(2 ** (fitting.bit_length() - 1), MOST_ON_CPU if on_cpu else MOST_ON_GPU)
    logger.info("batches of %d: an image takes some %.2g of %.0f GB", size, each / 1e9, memory / 1e9)
    return config.override({"train.batch_size": size})
