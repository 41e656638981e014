"""Predicts images or a split and writes the results: the work of ``maskrcnn infer``."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from maskrcnn.config import Config
from maskrcnn.errors import UserError, expect, given_or_default
from maskrcnn.inference.frames import VideoOptions
from maskrcnn.inference.inputs import find_inputs
from maskrcnn.inference.outputs.writers import Saving
from maskrcnn.inference.results import infer_batches, infer_inputs
from maskrcnn.inference.sources import ModelSource, open_source
from maskrcnn.inference.views import Views
from maskrcnn.input_files import as_path

LISTED = 3  # unreadable images that are named; the others are counted

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class InferOptions:
    """What is predicted how, and what is written."""

    score_threshold: float = 0.5  # lowest score that is written, but in predictions.json
    save: tuple[str, ...] = ("drawn",)  # forms, beside predictions.json; see inference.outputs
    classes: tuple[str, ...] = ()  # names of the only categories that are written; none are all
    views: Views = field(default_factory=Views)  # tiles, augmentation
    video: VideoOptions = field(default_factory=VideoOptions)  # frames skipped, tracking

    def __post_init__(self) -> None:
        expect(self.views, Views, "views")
        expect(self.video, VideoOptions, "video")
        if not 0 <= expect(self.score_threshold, int | float, "score_threshold") <= 1:
            raise UserError(f"--score_threshold {self.score_threshold:g}: scores lie between 0 and 1")


def infer_folder(
    model: str | Path,
    out_dir: str | Path,
    *,
    paths: Sequence[str | Path] = (),
    data_dir: str | Path | None = None,
    settings: Mapping[str, Any] | None = None,
    options: InferOptions | None = None,
) -> int:
    """Predicts images and writes predictions.json and, by default, a PNG for each.

    Args:
        model: a model folder, a checkpoint file, published weights (a name or a URL), or an exported file.
        out_dir: folder for the results.
        paths: images, folders, videos, addresses and more, see `find_inputs`.
        data_dir: a dataset, whose split ``data.eval_split`` is predicted if there are no paths.
        settings: dotted config fields that replace the saved ones; ``train.eval_samples`` is not taken from the
            training run.
        options: how is predicted, and what is written. A score threshold below the model's own makes the model return
            more detections.

    Returns:
        The number of images and videos that could not be read, or not entirely; they are named in the log, and the
        others are predicted.

    Raises:
        UserError: no model, nothing to predict, no image that can be read, or a folder that cannot be written.
    """
    options = given_or_default(options, InferOptions, "options")
    paths = [paths] if isinstance(paths, str | Path) else expect(paths, list | tuple, "paths")
    out_dir, settings = as_path(out_dir), {} if settings is None else settings
    source = open_source(model)
    config = source.config.override({"train.eval_samples": None}).override(settings)
    if options.score_threshold < config.model.box_head.score_threshold:
        config = config.override({"model.box_head.score_threshold": options.score_threshold})
    saving = Saving(out_dir, options.save, options.score_threshold, options.classes)
    saving.check(config.categories)
    if paths:
        inputs = find_inputs(paths)
        inputs = replace(inputs, images=inputs.images[: config.train.eval_samples])
        problems = infer_inputs(source.build(config), inputs, saving, options.views, options.video)
        _report(problems, len(inputs.names))
        return len(problems)
    if data_dir is None:
        raise UserError("nothing to predict; give images, folders of images, or --data_dir for a split of a dataset")
    if options.views != Views():
        raise UserError("--tile and --augment work on images; give them instead of --data_dir")
    _infer_split(source, config, as_path(data_dir), saving)
    return 0


def _infer_split(source: ModelSource, config: Config, data_dir: Path, saving: Saving) -> None:
    from maskrcnn.data.loader.pipeline import eval_dataset  # imports TensorFlow
    from maskrcnn.data.splits import find_dataset

    name, samples = config.data.eval_split, config.train.eval_samples
    dataset = find_dataset(data_dir, config.data, cache_dir=saving.out_dir)
    dataset.convert(name, announce=True)
    split = dataset.open(name)
    batches = eval_dataset(split, config, batch_size=config.train.eval_batch_size, num_samples=samples)
    num_images = min(split.num_examples, samples or split.num_examples)
    infer_batches(source.build(config), batches, saving, num_images=num_images)


def _report(problems: list[str], num_images: int) -> None:
    for problem in problems[:LISTED]:
        logger.warning("skipped %s", problem)
    if len(problems) > LISTED:
        logger.warning("skipped %d more", len(problems) - LISTED)
    if problems:
        logger.warning("%d of %d images could not be read; the others were predicted", len(problems), num_images)
