"""Predictions as files: COCO results in JSON and one picture an image with what was found drawn on it."""

import contextlib
import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TextIO

import numpy as np
from PIL import Image
from tqdm import tqdm

from maskrcnn.errors import UserError
from maskrcnn.imaging.read import list_images, load_image
from maskrcnn.inference.detections import Detections
from maskrcnn.inference.predictor import Predictor, predict_batches
from maskrcnn.runtime.files import replacing

PREDICTIONS_FILE = "predictions.json"


class ResultWriter:
    """Writes COCO results into an open file, image by image."""

    def __init__(self, file: TextIO) -> None:
        self.images = 0
        self._file = file
        self._separator = "["

    def add(self, image_id: int, detections: Detections, **extra: str) -> None:
        """Appends an image's detections; ``extra`` goes into each of them."""
        for result in detections.to_coco(image_id):
            self._file.write(f"{self._separator}\n{json.dumps({**result, **extra})}")
            self._separator = ","
        self.images += 1

    def close(self) -> None:
        self._file.write("[]\n" if self._separator == "[" else "\n]\n")


@contextlib.contextmanager
def writing_results(path: Path) -> Iterator[ResultWriter]:
    """A writer of ``path``, which appears when it is complete and at least one image was added.

    Raises:
        UserError: no image was added, or the file cannot be written.
    """
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
    paths: Sequence[str | Path],
    out_dir: str | Path,
    *,
    score_threshold: float = 0.5,
    skip_bad: bool = False,
    progress: bool = True,
) -> list[str]:
    """Predicts image files and whole folders of them.

    Args:
        predictor: the model.
        paths: files, and folders whose images are taken too, those of inner folders included.
        out_dir: gets predictions.json, with all detections (``image_id`` counts from 1, ``file_name`` tells the
            image), and a PNG for each image, with those of at least ``score_threshold``.
        score_threshold: of what is drawn.
        skip_bad: leave out files that cannot be read instead of stopping.
        progress: whether to show a bar.

    Returns:
        What was wrong with each file left out.

    Raises:
        UserError: no image, one that cannot be read, or a folder that cannot be written.
    """
    files = _find_images([Path(path) for path in paths])
    out_dir = Path(out_dir)
    names = _picture_names([file.stem for file in files])
    skipped: list[str] = []
    with writing_results(out_dir / PREDICTIONS_FILE) as writer:
        numbered = enumerate(zip(files, names, strict=True), start=1)
        for image_id, (file, name) in tqdm(numbered, "predicting", len(files), unit="image", disable=not progress):
            try:
                image = load_image(file)
            except UserError as error:
                if not skip_bad:
                    raise
                skipped.append(str(error))
                continue
            detections = predictor.predict(image)
            writer.add(image_id, detections, file_name=str(file))
            _save(detections.draw(image, score_threshold), out_dir / name)
        if not writer.images:
            raise UserError(f"none of {len(files)} images can be read; the first: {skipped[0]}")
    return skipped


def infer_batches(
    predictor: Predictor,
    dataset: Iterable[dict[str, Any]],
    out_dir: str | Path,
    *,
    score_threshold: float = 0.5,
    num_images: int | None = None,
    progress: bool = True,
) -> int:
    """Predicts an evaluation dataset; as `infer_images`, with the dataset's own image ids.

    Pictures are named by image id; they show the images as the model got them, at their original size.

    Returns:
        The number of images.

    Raises:
        UserError: no image, or a folder that cannot be written.
    """
    out_dir = Path(out_dir)
    predictions = predict_batches(predictor.model, dataset, predictor.config.categories)
    with writing_results(out_dir / PREDICTIONS_FILE) as writer:
        for image_id, detections, image in tqdm(
            predictions, "predicting", num_images, unit="image", disable=not progress
        ):
            writer.add(image_id, detections)
            height, width = detections.image_size
            original = np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BICUBIC))
            _save(detections.draw(original, score_threshold), out_dir / f"{image_id}.png")
        images = writer.images
    return images


def _find_images(paths: Sequence[Path]) -> list[Path]:
    files: list[Path] = []
    for path in paths:
        found = list_images(path) if path.is_dir() else [path]
        if not found:
            raise UserError(f"{path}: no image in this folder; expected JPEG, PNG, BMP, GIF, TIFF or WebP files")
        if not path.exists():
            raise UserError(f"{path}: no such file or folder; give images or folders of images")
        files += found
    if not files:
        raise UserError("no image given; give images or folders of images")
    return list(dict.fromkeys(files))


def _picture_names(stems: Sequence[str]) -> list[str]:
    """A PNG's name for each stem, numbered where it would meet an earlier one (on any file system)."""
    taken: set[str] = set()
    names: list[str] = []
    for stem in stems:
        candidates = _numbered(stem)
        name = next(candidate for candidate in candidates if candidate.lower() not in taken)
        taken.add(name.lower())
        names.append(name)
    return names


def _numbered(stem: str) -> Iterator[str]:
    yield f"{stem}.png"
    number = 2
    while True:
        yield f"{stem}_{number}.png"
        number += 1


def _save(picture: Image.Image, path: Path) -> None:
    """Saves a PNG; compression 1 is several times as quick as the default, for files a tenth larger."""
    try:
        with replacing(path) as temporary:
            picture.save(temporary, compress_level=1)
    except OSError as error:
        raise UserError(
            f"{path}: cannot be written ({error.strerror}); free space or choose another --out_dir"
        ) from error
