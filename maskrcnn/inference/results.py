"""Writes predictions to files: COCO results as JSON, and for each image a PNG with its detections drawn on it."""

import contextlib
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TextIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from tqdm import tqdm

from maskrcnn.errors import UserError
from maskrcnn.imaging.read import FORMAT_NAMES, list_images, load_image
from maskrcnn.inference.detections import Detections
from maskrcnn.inference.predictor import Predictor, image_batches, predict_batches
from maskrcnn.runtime.files import remove_stale, replacing

PREDICTIONS_FILE = "predictions.json"


class ResultWriter:
    """Writes COCO results to an open file, image by image."""

    def __init__(self, file: TextIO) -> None:
        self.images = 0
        self._file = file
        self._separator = "["

    def add(self, image_id: int, detections: Detections, **extra: str) -> None:
        """Appends the detections of an image, each with the fields ``extra``."""
        for result in detections.to_coco(image_id):
            self._file.write(f"{self._separator}\n{json.dumps({**result, **extra})}")
            self._separator = ","
        self.images += 1

    def close(self) -> None:
        """Ends the JSON list."""
        self._file.write("[]\n" if self._separator == "[" else "\n]\n")


@contextlib.contextmanager
def writing_results(path: Path) -> Iterator[ResultWriter]:
    """Gives a writer of ``path``, a file that appears once it is complete and has at least one image.

    What a killed run left in its folder is removed.

    Raises:
        UserError: no image was added, or the file cannot be written.
    """
    remove_stale(path.parent)
    try:
        with replacing(path) as temporary, temporary.open("w", encoding="utf-8") as file:
            writer = ResultWriter(file)
            yield writer
            if not writer.images:
                raise UserError("no image to predict; check --data_dir, --eval_samples or the images given")
            writer.close()
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror}); choose another --out_dir") from error


def infer_images(
    predictor: Predictor,
    files: Sequence[Path],
    out_dir: str | Path,
    *,
    score_threshold: float = 0.5,
    progress: bool = True,
) -> list[str]:
    """Predicts image files in batches.

    Args:
        predictor: the model and its config, which has the batch size.
        files: see `find_images`.
        out_dir: folder for predictions.json, which has all detections (``image_id`` counts from 1, ``file_name`` names
            the image), and a PNG for each image.
        score_threshold: lowest score that is drawn.
        progress: whether to show a progress bar.

    Returns:
        A line for each file that could not be read.

    Raises:
        UserError: no file can be read, or the folder cannot be written.
    """
    config, out_dir = predictor.config, Path(out_dir)
    names = _image_names([file.stem for file in files])
    problems: list[str] = []
    originals: dict[int, NDArray[np.uint8]] = {}  # images that are being predicted

    def read() -> Iterator[tuple[int, NDArray[np.uint8]]]:
        for image_id, file in enumerate(files, start=1):
            try:
                originals[image_id] = load_image(file)
            except UserError as error:
                problems.append(str(error))
                continue
            yield image_id, originals[image_id]

    batches = image_batches(read(), config.model.image, config.train.eval_batch_size)
    predictions = predict_batches(predictor.model, batches, config.categories)
    with writing_results(out_dir / PREDICTIONS_FILE) as writer:
        for image_id, detections, _ in _with_bar(predictions, len(files), progress):
            writer.add(image_id, detections, file_name=str(files[image_id - 1]))
            _save(detections.draw(originals.pop(image_id), score_threshold), out_dir / names[image_id - 1])
        if not writer.images:
            raise UserError(f"none of {len(files)} images can be read; the first: {problems[0]}")
    return problems


def infer_batches(
    predictor: Predictor,
    dataset: Iterable[dict[str, Any]],
    out_dir: str | Path,
    *,
    score_threshold: float = 0.5,
    num_images: int | None = None,
    progress: bool = True,
) -> int:
    """Predicts an evaluation dataset into the same files as `infer_images`, with the dataset's own image ids.

    The PNGs are named by image id and show the images as the model saw them, scaled back to their original size.

    Returns:
        The number of images.

    Raises:
        UserError: no image, or the folder cannot be written.
    """
    out_dir = Path(out_dir)
    predictions = predict_batches(predictor.model, dataset, predictor.config.categories)
    with writing_results(out_dir / PREDICTIONS_FILE) as writer:
        for image_id, detections, image in _with_bar(predictions, num_images, progress):
            writer.add(image_id, detections)
            height, width = detections.image_size
            original = np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BICUBIC))
            _save(detections.draw(original, score_threshold), out_dir / f"{image_id}.png")
        return writer.images


def find_images(paths: Sequence[str | Path]) -> list[Path]:
    """The image files among files and folders, without duplicates.

    Raises:
        UserError: a path that does not exist, a folder without images, or no path at all.
    """
    files: list[Path] = []
    for path in paths:
        if not str(path):
            raise UserError("an empty path was given; give images or folders of images")
        path = Path(path)
        found = list_images(path) if os.path.isdir(path) else [path]
        if not found:
            raise UserError(f"{path}: no image in this folder; expected {FORMAT_NAMES} files")
        if not os.path.exists(path):
            raise UserError(f"{path}: no such file or folder; give images or folders of images")
        files += found
    if not files:
        raise UserError("no image given; give images or folders of images")
    return list(dict.fromkeys(files))


def _with_bar(predictions: Iterable[Any], total: int | None, progress: bool) -> Iterable[Any]:
    return tqdm(predictions, "predicting", total, unit="image", disable=not progress)


def _image_names(stems: Sequence[str]) -> list[str]:
    """The names of the PNGs, numbered where two would be the same file (on any file system)."""
    taken: set[str] = set()
    names: list[str] = []
    for stem in stems:
        name = next(candidate for candidate in _numbered(stem) if candidate.lower() not in taken)
        taken.add(name.lower())
        names.append(name)
    return names


def _numbered(stem: str) -> Iterator[str]:
    yield f"{stem}.png"
    number = 2
    while True:
        yield f"{stem}_{number}.png"
        number += 1


def _save(image: Image.Image, path: Path) -> None:
    """Saves a PNG with compression level 1: several times as fast as the default, and a tenth larger."""
    try:
        with replacing(path) as temporary:
            image.save(temporary, compress_level=1)
    except OSError as error:
        raise UserError(
            f"{path}: cannot be written ({error.strerror}); free disk space or choose another --out_dir"
        ) from error
