"""The estimate, counted by hand for a small model."""

import numpy as np

from maskrcnn.config import Config
from maskrcnn.training.memory import ACTIVATION_FACTOR, MemoryEstimate, activations, estimate_memory


def test_activations_of_a_tiny_model():
    """Canvas 128x128; ResNet-18 of width 16, all of it trained; FPN of 32 channels."""
    backbone = 3 * 2 * (16 * 1024 + 32 * 256 + 64 * 64 + 128 * 16)  # two blocks of three outputs in each stage
    fpn = 2 * 32 * (1024 + 256 + 64 + 16)
    rpn = 32 * (1024 + 256 + 64 + 16 + 4)
    box = 64 * (49 * 32 + 2 * 128)
    mask = 16 * (196 * (32 + 2 * 32) + 784 * (32 + 6))  # a quarter of the 64 RoIs
    assert activations(Config.tiny().model, num_classes=6) == backbone + fpn + rpn + box + mask


def test_frozen_stages_keep_nothing():
    model = Config.tiny().model
    frozen = Config.tiny().override({"backbone.freeze_at": 2}).model
    saved = activations(model, num_classes=6) - activations(frozen, num_classes=6)
    assert saved == 3 * 2 * 16 * 1024  # C2; the stem is not counted


def test_state_is_weights_gradients_and_slots():
    plain = estimate_memory(Config(), [np.zeros((10, 8)), np.zeros(20)], [np.zeros((10, 8))])
    assert plain.state == 4 * (100 + 2 * 80)  # gradients, momentum
    settings = {"train.optimizer": "adam", "train.ema": 0.9, "train.accumulate": 2, "train.precision": "bfloat16"}
    much = estimate_memory(Config().override(settings), [np.zeros(100)], [np.zeros(80)])
    assert much.state == 4 * (100 + 5 * 80)
    assert much.image == plain.image // 2
    assert plain.image == int(ACTIVATION_FACTOR * 4 * activations(Config().model, num_classes=1))


def test_description():
    estimate = MemoryEstimate(state=500_000_000, image=2_000_000_000)
    assert estimate.total(4) == 8_500_000_000
    text = "about 8.5 GB of memory a device: 0.5 GB for the weights, 2.0 GB for each of 4 images"
    assert estimate.describe(4, limit=None) == estimate.describe(4, limit=8_500_000_000) == [text]
    assert "more than the 8.0 GB there are; lower --train_batch_size" in estimate.describe(4, limit=8_000_000_000)[1]
