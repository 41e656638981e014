"""The images that an int8 file is calibrated on, resized as for the model: of a dataset, or of a folder of images."""

from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from maskrcnn.config import Config
from maskrcnn.errors import UserError
from maskrcnn.imaging.read import load_image
from maskrcnn.inference.inputs import find_inputs
from maskrcnn.inference.predictor import image_batches

MAX_IMAGES = 300
CHECKED = 8  # of the images that calibrated a file
INPUTS = {"images": np.uint8, "image_sizes": np.float32}

NamedImage = tuple[str, NDArray[np.uint8]]  # RGB [h, w, 3]


def calibration_images(data_dir: str | Path, config: Config, size: tuple[int, int] | None) -> Iterator[dict[str, Any]]:
    """Batches of one image, ``images`` [1, H, W, 3] and ``image_sizes`` [1, 2]: of the train split, or all in a folder.

    Args:
        data_dir: a dataset, which is converted unless it was before, or a folder of images.
        config: of the model.
        size: the only canvas that counts; None is any.

    Raises:
        UserError: neither a dataset nor a folder of images, or no image for this canvas.
    """
    found = 0
    for batch in _of_dataset(data_dir, config) or _of_folder(data_dir, config):
        if size is None or tuple(batch["images"].shape[1:3]) == size:
            found += 1
            yield {name: np.asarray(batch[name], dtype) for name, dtype in INPUTS.items()}
    if not found:
        canvas = f"a canvas of {size[0]}x{size[1]} px" if size else "the model"
        raise UserError(f"{data_dir}: no image for {canvas} to calibrate on; give another dataset or folder")


def _of_dataset(data_dir: str | Path, config: Config) -> Iterator[dict[str, Any]] | None:
    """None if the folder is no dataset that can be trained on."""
    from maskrcnn.data.loader.pipeline import eval_dataset  # imports TensorFlow
    from maskrcnn.data.splits import find_dataset

    try:
        dataset = find_dataset(data_dir, config.data)
        dataset.convert("train")
        return iter(eval_dataset(dataset.open("train"), config, batch_size=1, num_samples=MAX_IMAGES))
    except UserError:
        return None


def _of_folder(data_dir: str | Path, config: Config) -> Iterator[dict[str, Any]]:
    images = (
        (index, load_image(path)) for index, path in enumerate(islice(find_inputs([data_dir]).images, MAX_IMAGES))
    )
    return image_batches(images, config.model.image, 1)


def fill(batch: dict[str, Any], size: int) -> dict[str, Any]:
    """A batch of one image with empty images up to ``size``."""
    return {name: np.pad(array, [(0, size - 1)] + [(0, 0)] * (array.ndim - 1)) for name, array in batch.items()}


def cropped(batches: Iterator[dict[str, Any]]) -> list[NamedImage]:
    """The first images of batches of one, without the rest of their canvas, to check a file on."""
    images = []
    for number, batch in enumerate(islice(batches, CHECKED)):
        height, width = (int(side) for side in batch["image_sizes"][0])
        images.append((f"calibration image {number}", batch["images"][0, :height, :width]))
    return images


def read_images(paths: Sequence[str | Path]) -> list[NamedImage]:
    """Image files to check a file on.

    Raises:
        UserError: one cannot be read.
    """
    return [(Path(path).name, load_image(path)) for path in paths]
