"""Predicts images, videos and evaluation batches and writes the detections to files."""

import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from tqdm import tqdm

from maskrcnn.errors import UserError
from maskrcnn.imaging.large_image import Pixels
from maskrcnn.inference.frames import Video, VideoOptions, infer_video
from maskrcnn.inference.inputs import Inputs, local_file
from maskrcnn.inference.outputs.item import Item, Writer
from maskrcnn.inference.outputs.writers import Saving, writing_outputs
from maskrcnn.inference.predictor import Predictor, open_source, predict_batches
from maskrcnn.inference.views import Views


def infer_inputs(
    predictor: Predictor,
    inputs: Inputs,
    saving: Saving,
    views: Views | None = None,
    video: VideoOptions | None = None,
) -> list[str]:
    """Predicts images in batches, then videos.

    Args:
        predictor: the model and its config, which has the batch size.
        inputs: see `find_inputs`.
        saving: how and where the detections are written; ``image_id`` counts images, then frames, from 1.
        views: whether images are cut into tiles or augmented; None is neither.
        video: how videos are predicted.

    Returns:
        A line for each input that could not be read, and for each video with broken frames.

    Raises:
        UserError: nothing can be read, or the folder cannot be written.
        KeyboardInterrupt: a video was interrupted; the files are complete.
    """
    views, video = views or Views(), video or VideoOptions()
    names, interrupted = inputs.names, False
    with tempfile.TemporaryDirectory() as folder, writing_outputs(saving, predictor.config.categories) as add:
        count, problems = _infer_images(predictor, inputs.images, names, add, views, Path(folder))
        first_id = len(inputs.images) + 1
        for source, name in zip(inputs.videos, names[len(inputs.images) :], strict=True):
            try:
                one = Video(source, local_file(source, Path(folder)), name, first_id)
                frames, broken = infer_video(predictor, one, saving, add, video, views)
            except UserError as error:
                problems.append(str(error))
                continue
            except KeyboardInterrupt:
                interrupted = True
                break
            if broken:
                problems.append(f"{source}: {broken} broken frames")
            first_id, count = first_id + frames, count + frames
        if not count and not interrupted:
            total = len(names)
            raise UserError(f"none of {total} images and videos can be read; the first: {problems[0]}")
    if interrupted:
        raise KeyboardInterrupt
    return problems


def _infer_images(
    predictor: Predictor, files: Sequence[str], names: Sequence[str], add: Writer, views: Views, folder: Path
) -> tuple[int, list[str]]:
    """The number of images predicted, and a line for each that could not be read."""
    problems: dict[int, str] = {}
    originals: dict[int, Pixels] = {}  # images that are being predicted

    def read() -> Iterator[tuple[int, Pixels]]:
        for image_id, image in open_images(enumerate(files, start=1), folder, views, problems):
            originals[image_id] = image
            yield image_id, image

    count = 0
    for image_id, detections in tqdm(
        predictor.predict_images(read(), views), "predicting", len(files), unit="image", disable=not files
    ):
        image = originals.pop(image_id)
        add(Item(image_id, names[image_id - 1], files[image_id - 1], detections, lambda image=image: image))
        count += 1
    return count, list(problems.values())


def open_images(
    files: Iterable[tuple[int, str]], folder: Path, views: Views, problems: dict[int, str]
) -> Iterator[tuple[int, Pixels]]:
    """Yields numbered images, those of addresses by way of ``folder``; ``problems`` gets what cannot be read."""
    for image_id, file in files:
        try:
            image = open_source(local_file(file, folder), tiled=views.tile is not None)
        except UserError as error:
            problems[image_id] = str(error)
        else:
            yield image_id, image


def infer_batches(
    predictor: Predictor,
    dataset: Iterable[dict[str, Any]],
    saving: Saving,
    *,
    num_images: int | None = None,
) -> int:
    """Predicts an evaluation dataset into the same files as `infer_inputs`, with the dataset's own image ids.

    The files are named by image id and show the images as the model saw them, scaled back to their original size.

    Returns:
        The number of images.

    Raises:
        UserError: no image, or the folder cannot be written.
    """
    count = 0
    predictions = predict_batches(predictor.model, dataset, predictor.config.categories)
    with writing_outputs(saving, predictor.config.categories) as add:
        for image_id, detections, image in tqdm(predictions, "predicting", num_images, unit="image"):
            size = detections.image_size
            add(Item(image_id, str(image_id), "", detections, lambda image=image, size=size: _resized(image, size)))
            count += 1
        if not count:
            raise UserError("no image to predict; check --data_dir and --eval_samples")
    return count


def _resized(image: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """The image in another size, height first."""
    return np.asarray(Image.fromarray(image).resize((size[1], size[0]), Image.Resampling.BICUBIC))
