"""The model at the start of a run: built, given its first weights, and compiled."""

import logging
import random
from typing import Any

import keras

from maskrcnn.config import Config, TrainConfig
from maskrcnn.model import MaskRCNN
from maskrcnn.runtime import backend
from maskrcnn.runtime.distribution import Devices
from maskrcnn.runtime.hardware import computes_on_cpu
from maskrcnn.runtime.keras_patches import keep_weights_after_fit, patch_distributed_training
from maskrcnn.training.optimizer import make_optimizer
from maskrcnn.training.options import Start
from maskrcnn.training.plan import Plan
from maskrcnn.weights.transfer import load_start

# Measured: 225 times the processor time of float32, for a 3x3 convolution of 128 channels; forward as fast as float32.
SLOW_FLOAT16 = (
    "float16 on a CPU: TensorFlow takes some 200 times as long as in float32 for the gradients of a convolution; "
    "give --precision bfloat16 where the processor has it, else float32"
)
logger = logging.getLogger(__name__)


def prepare_backend(config: TrainConfig, devices: Devices) -> int:
    """Sets the precision and the random seeds; returns the seed of the data's order."""
    backend.set_precision(config.precision)
    if config.precision == "float16" and backend.active_backend() == "tensorflow" and computes_on_cpu():
        logger.warning(SLOW_FLOAT16)
    if config.seed is not None:
        backend.set_seed(config.seed, xla=config.xla)
        return config.seed
    seed = devices.broadcast_object(random.randrange(2**31))
    if devices.world_size > 1:  # all processes must begin with the same weights
        keras.utils.set_random_seed(seed)
    return seed


def build_model(config: Config, start: Start, plan: Plan, devices: Devices) -> Any:
    """The compiled model with its first weights.

    Raises:
        UserError: weights that are missing or belong to another architecture, or settings that are not valid.
    """
    model = (start.build_model or MaskRCNN)(config)
    load_start(model, backbone_checkpoint=start.backbone_checkpoint, weights=start.weights)
    optimizer = make_optimizer(config.train, plan.schedule)
    model.compile(optimizer, **devices.compile_options(xla=config.train.xla, eagerly=config.train.eagerly))
    model.optimizer.build(model.trainable_variables)  # inside the first step it takes TensorFlow far longer
    if config.train.ema is not None:
        keep_weights_after_fit(model.optimizer)
    if devices.uses_tensorflow_strategy:
        patch_distributed_training(model, devices.world_size)
    return model
