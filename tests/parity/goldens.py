"""torchvision's recorded numbers, and the model with the weights that they were recorded with."""

import dataclasses
import importlib.util
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from maskrcnn.config import BackboneConfig, Category, Config, ImageConfig, ModelConfig, RPNConfig
from maskrcnn.model import MaskRCNN
from maskrcnn.weights.rules import TORCHVISION, convert
from maskrcnn.weights.variables import assign, model_variables

Array = NDArray[Any]
Batch = dict[str, Array]

FOLDER = Path(__file__).parents[1] / "fixtures" / "goldens"
LEVELS = ("P2", "P3", "P4", "P5", "P6")
STATES = {
    "v1": "state_dict_maskrcnn_resnet50_fpn.json",
    "v2": "state_dict_maskrcnn_resnet50_fpn_v2.json",
}
CLASSES = 91  # the background and COCO's category ids with their gaps


@dataclasses.dataclass(frozen=True)
class Row:
    """A line of the table: how far a stage is from torchvision."""

    stage: str
    error: float  # largest difference, in the tolerance's unit
    tolerance: float  # of goldens/README.md

    @property
    def passed(self) -> bool:
        return self.error <= self.tolerance


def load_generator() -> ModuleType:
    """The module that makes the weights, the images and the ground truth."""
    spec = importlib.util.spec_from_file_location("golden_weights", FOLDER / "weights.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def load_arrays(name: str) -> dict[str, Array]:
    with np.load(FOLDER / f"{name}.npz") as arrays:
        return dict(arrays)


def make_state(version: str) -> dict[str, Array]:
    """The tensors of ``v1`` or ``v2`` in torchvision's names and layouts."""
    rows = json.loads((FOLDER / STATES[version]).read_text(encoding="utf-8"))
    return load_generator().make_state_dict({row["name"]: tuple(row["shape"]) for row in rows})


def golden_config(version: str, **model: Any) -> Config:
    """The config of the recorded model; ``model`` replaces parts of it."""
    from maskrcnn.weights.architectures import TORCHVISION_V2

    parts = {
        "image": ImageConfig(min_side=256, max_side=320),
        "backbone": BackboneConfig(freeze_at=0),
        "rpn": RPNConfig(),
        **(TORCHVISION_V2 if version == "v2" else {}),
        **model,
    }
    categories = tuple(Category(index, index, str(index)) for index in range(1, CLASSES))
    config = Config(model=ModelConfig(**parts), categories=categories)
    return config.override({"train.l2_weight_decay": 0.0, "train.seed": 0})


def build_model(config: Config, state: dict[str, Array], *, kind: type[MaskRCNN] = MaskRCNN) -> MaskRCNN:
    model = kind(config)
    set_state(model, state)
    return model


def set_state(model: MaskRCNN, state: dict[str, Array]) -> None:
    assign(model_variables(model), convert(state, TORCHVISION, path="goldens"), path="goldens")


def first_image() -> Batch:
    """The recorded image, 256 x 320, on a canvas of its own size."""
    image = load_generator().make_image_uint8()
    height, width = image.shape[:2]
    return {"images": image[None], "image_sizes": np.array([[height, width]], np.float32)}


def two_images() -> Batch:
    """The recorded batch: the second image, 200 x 310, is resized to 206 x 320 and padded at the bottom.

    It is resized in floating point, as in torchvision; the data pipeline rounds to bytes.
    """
    generator = load_generator()
    second = generator.make_image(seed=generator.IMAGE_SEED + 1)[:200, :310] * np.float32(255)
    first = first_image()["images"][0].astype(np.float32)
    images = np.zeros((2, *first.shape), np.float32)
    images[0], images[1, :206, :320] = first, _resize(second, 206, 320)
    return {"images": images, "image_sizes": np.array([[256, 320], [206, 320]], np.float32)}


def _resize(image: Array, height: int, width: int) -> Array:
    """Bilinear, half-pixel centers, edges repeated, no antialiasing: torchvision's resize."""
    for axis, size in ((0, height), (1, width)):
        length = image.shape[axis]
        points = np.clip((np.arange(size) + 0.5) * (length / size) - 0.5, 0, length - 1)
        low = np.floor(points).astype(int)
        high = np.minimum(low + 1, length - 1)
        fraction = (points - low).astype(np.float32).reshape([-1 if i == axis else 1 for i in range(3)])
        image = np.take(image, low, axis) * (1 - fraction) + np.take(image, high, axis) * fraction
    return image


def training_batch(*, objects: bool = True) -> Batch:
    """The recorded image with its ground truth, masks over the whole image; without objects, all of it is padding."""
    target = load_generator().make_target()
    count = len(target["labels"])
    region = np.array([0, 0, 320, 256], np.float32)
    return {
        **first_image(),
        "boxes": target["boxes"][None] * objects,
        "classes": target["labels"][None].astype(np.int32) * objects,
        "masks": target["masks"][None] * np.uint8(objects),
        "mask_regions": np.broadcast_to(region, (1, count, 4)) * np.float32(objects),
        "valid": np.full((1, count), objects),
    }
