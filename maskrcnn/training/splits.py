"""The data of a run: the split to train on and the one to evaluate on."""

import dataclasses
import logging
from pathlib import Path
from typing import NamedTuple

from maskrcnn.config import Category, Config
from maskrcnn.data.loader.synthetic import SYNTHETIC_CATEGORIES
from maskrcnn.data.splits import Split, find_dataset
from maskrcnn.evaluation.eval_split import open_eval_split
from maskrcnn.training.options import RunOptions

logger = logging.getLogger(__name__)


class Splits(NamedTuple):
    """The splits of a run."""

    train: Split | None  # None: synthetic data
    val: Split | None  # None: no evaluation

    @property
    def categories(self) -> tuple[Category, ...]:
        """The categories of the data."""
        return self.train.categories if self.train else SYNTHETIC_CATEGORIES


def open_splits(config: Config, data_dir: str | Path | None, model_dir: Path, options: RunOptions) -> Splits:
    """Opens the splits, and converts them first where that has not been done; without ``data_dir`` there are none.

    Raises:
        UserError: data that cannot be opened, or with which the model cannot be evaluated.
    """
    if data_dir is None:
        return Splits(None, None)
    dataset = find_dataset(data_dir, config.data, cache_dir=model_dir)
    names = ("train", "val") if options.evaluate and options.eval_file is None else ("train",)
    dataset.convert(*names, announce=True)
    train = dataset.open("train")
    if not options.evaluate:
        return Splits(train, None)
    config = dataclasses.replace(config, categories=train.categories)
    return Splits(train, open_eval_split(config, data_dir, model_dir, eval_file=options.eval_file))
