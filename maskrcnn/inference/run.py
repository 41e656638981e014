"""Predicts images or a split with a model folder: what `maskrcnn infer` does."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from maskrcnn.data.loader.pipeline import eval_dataset
from maskrcnn.data.splits import find_dataset
from maskrcnn.errors import UserError
from maskrcnn.inference.predictor import Predictor
from maskrcnn.inference.results import infer_batches, infer_images
from maskrcnn.weights.model_folder import load_for_use, load_model_config

logger = logging.getLogger(__name__)


def infer_folder(
    model_dir: str | Path,
    out_dir: str | Path,
    *,
    paths: Sequence[str | Path] = (),
    data_dir: str | Path | None = None,
    settings: Mapping[str, Any] | None = None,
    score_threshold: float = 0.5,
) -> None:
    """Predicts pictures, folders of them, or a val split; writes predictions.json and a picture for each.

    Args:
        model_dir: of the model.
        out_dir: gets the results.
        paths: pictures and folders.
        data_dir: whose split ``data.eval_split`` is predicted if there are no paths.
        settings: dotted config fields that replace the saved ones.
        score_threshold: of what is drawn.

    Raises:
        UserError: no model, nothing to predict, or a file that cannot be read.
    """
    config = load_model_config(model_dir).override(dict(settings or {}))
    train, skip_bad = config.train, config.data.skip_bad
    if paths:
        predictor = Predictor(load_for_use(model_dir, config), config)
        for problem in infer_images(predictor, paths, out_dir, score_threshold=score_threshold, skip_bad=skip_bad):
            logger.warning("skipped %s", problem)
    elif data_dir is not None:
        dataset = find_dataset(data_dir, config.data, cache_dir=out_dir)
        dataset.convert(config.data.eval_split)
        split = dataset.open(config.data.eval_split)
        for line in dataset.describe(config.data.eval_split):
            logger.info("%s", line)
        batches = eval_dataset(split, config, batch_size=train.eval_batch_size, num_samples=train.eval_samples)
        num_images = min(split.num_examples, train.eval_samples or split.num_examples)
        predictor = Predictor(load_for_use(model_dir, config), config)
        infer_batches(predictor, batches, out_dir, score_threshold=score_threshold, num_images=num_images)
    else:
        raise UserError("nothing to predict; give images or folders, or --data_dir for its val split")
