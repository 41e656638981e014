"""Predicts images and evaluation batches and writes the detections to files."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from tqdm import tqdm

from maskrcnn.errors import UserError
from maskrcnn.imaging.large_image import Pixels
from maskrcnn.imaging.read import FORMAT_NAMES, list_images
from maskrcnn.inference.outputs.item import Item
from maskrcnn.inference.outputs.writers import Saving, writing_outputs
from maskrcnn.inference.predictor import Predictor, open_source, predict_batches
from maskrcnn.inference.views import Views


def infer_images(
    predictor: Predictor,
    files: Sequence[Path],
    saving: Saving,
    views: Views | None = None,
    *,
    progress: bool = True,
) -> list[str]:
    """Predicts image files in batches.

    Args:
        predictor: the model and its config, which has the batch size.
        files: see `find_images`.
        saving: how and where the detections are written; ``image_id`` counts from 1.
        views: whether the images are cut into tiles or augmented; None is neither.
        progress: whether to show a progress bar.

    Returns:
        A line for each file that could not be read.

    Raises:
        UserError: no file can be read, or the folder cannot be written.
    """
    views = views or Views()
    names = unique_names([file.stem for file in files])
    problems: list[str] = []
    originals: dict[int, Pixels] = {}  # images that are being predicted

    def read() -> Iterator[tuple[int, Pixels]]:
        for image_id, file in enumerate(files, start=1):
            try:
                originals[image_id] = open_source(file, tiled=views.tile is not None)
            except UserError as error:
                problems.append(str(error))
                continue
            yield image_id, originals[image_id]

    predictions = predictor.predict_images(read(), views)
    with writing_outputs(saving, predictor.config.categories) as add:
        for image_id, detections in _with_bar(predictions, len(files), progress):
            image = originals.pop(image_id)
            position = image_id - 1
            add(Item(image_id, names[position], str(files[position]), detections, lambda image=image: image))
        if len(problems) == len(files):
            raise UserError(f"none of {len(files)} images can be read; the first: {problems[0]}")
    return problems


def infer_batches(
    predictor: Predictor,
    dataset: Iterable[dict[str, Any]],
    saving: Saving,
    *,
    num_images: int | None = None,
    progress: bool = True,
) -> int:
    """Predicts an evaluation dataset into the same files as `infer_images`, with the dataset's own image ids.

    The files are named by image id and show the images as the model saw them, scaled back to their original size.

    Returns:
        The number of images.

    Raises:
        UserError: no image, or the folder cannot be written.
    """
    count = 0
    predictions = predict_batches(predictor.model, dataset, predictor.config.categories)
    with writing_outputs(saving, predictor.config.categories) as add:
        for image_id, detections, image in _with_bar(predictions, num_images, progress):
            size = detections.image_size[::-1]
            add(Item(image_id, str(image_id), "", detections, lambda image=image, size=size: _resized(image, size)))
            count += 1
        if not count:
            raise UserError("no image to predict; check --data_dir and --eval_samples")
    return count


def find_images(paths: Sequence[str | Path]) -> list[Path]:
    """The image files among files and folders, without duplicates.

    Raises:
        UserError: a path that does not exist, a folder without images, or no path at all.
    """
    files: list[Path] = []
    for path in map(Path, paths):
        found = list_images(path) if path.is_dir() else [path]
        if not found:
            raise UserError(f"{path}: no image in this folder; expected {FORMAT_NAMES} files")
        if not path.exists():
            raise UserError(f"{path}: no such file or folder; give images or folders of images")
        files += found
    if not files:
        raise UserError("no image given; give images or folders of images")
    return list(dict.fromkeys(files))


def _with_bar(predictions: Iterable[Any], total: int | None, progress: bool) -> Iterable[Any]:
    return tqdm(predictions, "predicting", total, unit="image", disable=not progress)


def _resized(image: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BICUBIC))


def unique_names(stems: Sequence[str]) -> list[str]:
    """The stems, numbered where two would name the same file (on any file system)."""
    taken: set[str] = set()
    names: list[str] = []
    for stem in stems:
        name, number = stem, 1
        while name.lower() in taken:
            number += 1
            name = f"{stem}_{number}"
        taken.add(name.lower())
        names.append(name)
    return names
