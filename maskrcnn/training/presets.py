"""Recipes that suit the machine and the dataset: ``maskrcnn train --preset``.

The defaults of `Config` are the reference's recipe for COCO on several GPUs. On a laptop that takes days, and for 500
images it is not a good recipe, so ``auto`` chooses by the device and by the number of images.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from maskrcnn.config import Config, ModelConfig
from maskrcnn.errors import UserError, expect

PRESETS = ("auto", "cpu", "gpu", "v2", "reference")
WEIGHTS = {"gpu": "maskrcnn_resnet50_fpn", "v2": "maskrcnn_resnet50_fpn_v2"}  # what a preset fine-tunes by default
EVALUATIONS = 5  # of a run, with the last one

# A network that learns from scratch in minutes on a CPU: ResNet-18 of half the width, its batch norms trained.
SMALL_MODEL: dict[str, Any] = {
    "image.min_side": 256,
    "image.max_side": 256,
    "norm.train": True,
    "backbone.depth": 18,
    "backbone.width": 32,
    "backbone.freeze_at": 0,
    "fpn.channels": 64,
    "anchors.sizes": (16, 32, 64, 128, 256),
    "rpn.train_candidates": 400,
    "rpn.train_proposals": 200,
    "rpn.test_candidates": 400,
    "rpn.test_proposals": 200,
    "box_head.channels": 256,
    "box_head.samples": 64,
    "box_head.test_candidates": 400,
    "mask_head.convolutions": 2,
    "mask_head.channels": 64,
}
# On 500 drawn images of 320 px it reaches a mask AP of 0.68 in 10 epochs, some 10 minutes on two cores
FROM_SCRATCH: dict[str, Any] = {
    "train.batch_size": 4,
    "train.optimizer": "adam",
    "train.clip_norm": 10.0,
    "train.learning_rate_values": (0.002,),
}
FINE_TUNING_ON_CPU: dict[str, Any] = {
    "image.min_side": 416,
    "image.max_side": 672,
    "train.batch_size": 1,
    "train.learning_rate_values": (0.01,),
}
FINE_TUNING_ON_GPU: dict[str, Any] = {
    "train.batch_size": 4,
    "train.learning_rate_values": (0.01,),
    "train.precision": "bfloat16",
    "train.xla": True,
}


class Schedule(NamedTuple):
    """How many images a preset trains on: enough epochs to see ``images``, within bounds."""

    images: int
    min_epochs: int
    max_epochs: int

    def epochs(self, images: int) -> int:
        """The epochs for a training split of so many images."""
        return min(max(math.ceil(self.images / images), self.min_epochs), self.max_epochs)


SCHEDULES = {"scratch": Schedule(5500, 3, 100), "cpu": Schedule(1000, 1, 20), "gpu": Schedule(24_000, 4, 100)}


@dataclass(frozen=True)
class Recipe:
    """A config that is complete only when the device and the dataset are known: a preset under the user's settings.

    Raises:
        UserError: an unknown preset.
    """

    preset: str = "auto"
    settings: Mapping[str, Any] = field(default_factory=dict)  # dotted config fields; they override the preset's
    pretrained: ModelConfig | None = None  # architecture of the weights to fine-tune; None trains from scratch
    largest_batch: bool = False  # the batch size is the largest that fits the memory

    def __post_init__(self) -> None:
        expect(self.settings, Mapping, "settings")
        expect(self.pretrained, ModelConfig | None, "pretrained")
        if expect(self.preset, str, "preset") not in PRESETS:
            raise UserError(f"--preset {self.preset}: choose one of {', '.join(PRESETS)}")

    @property
    def base(self) -> Config:
        """The config before the dataset is known, whose ``data`` part is final."""
        return Config(model=self.pretrained or Config().model).override(dict(self.settings))

    def complete(self, *, images: int, on_cpu: bool) -> Config:
        """The config for a training split of so many images."""
        changes = self._changes(device_preset(self.preset, on_cpu=on_cpu), images)
        return replace(Config(), model=self.pretrained or Config().model).override({**changes, **self.settings})

    def _changes(self, preset: str, images: int) -> dict[str, Any]:
        if preset == "reference":
            return {}
        if self.pretrained and preset == "cpu" and self.pretrained.image.max_side <= SMALL_MODEL["image.max_side"]:
            schedule, changes = SCHEDULES["scratch"], FROM_SCRATCH  # a small model keeps its size, and its recipe
        elif self.pretrained:
            schedule, changes = SCHEDULES["cpu" if preset == "cpu" else "gpu"], FINE_TUNING_ON_GPU
            if preset == "cpu":
                changes = FINE_TUNING_ON_CPU
        else:
            schedule = SCHEDULES["scratch" if preset == "cpu" else "gpu"]
            changes = SMALL_MODEL | FROM_SCRATCH if preset == "cpu" else FINE_TUNING_ON_GPU
        epochs = schedule.epochs(max(images, 1))
        return changes | {
            "train.epochs": epochs,
            "train.decay": "cosine",
            "train.learning_rate_boundaries": (min(1.0, 0.1 * epochs),),  # where the warm-up ends
            "train.evaluate_every": math.ceil(epochs / EVALUATIONS),
        }


def device_preset(preset: str, *, on_cpu: bool) -> str:
    """The preset that ``auto`` stands for on this device; any other stands for itself."""
    return ("cpu" if on_cpu else "gpu") if preset == "auto" else preset


def describe_recipe(config: Config) -> str:
    """The choices of a recipe in one line."""
    model, train = config.model, config.train
    size = f"{model.image.min_side} to {model.image.max_side} px"
    if model.image.min_side == model.image.max_side:
        size = f"{model.image.max_side} px"
    epochs = f"{train.epochs} epoch{'' if train.epochs == 1 else 's'}"
    backbone = model.backbone.name or f"ResNet-{model.backbone.depth}"
    return f"{backbone}-FPN at {size}, {epochs} in batches of {train.batch_size}, {train.optimizer}, {train.precision}"
