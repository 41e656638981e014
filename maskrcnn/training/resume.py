"""Whether a run may resume in a folder where another one has been."""

import dataclasses
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from maskrcnn.config import Category, Config, load_config
from maskrcnn.data.records.split import fit_config
from maskrcnn.errors import UserError
from maskrcnn.runtime.hardware import computes_on_cpu
from maskrcnn.training.batch_size import with_largest_batch
from maskrcnn.training.checkpoint import list_checkpoints
from maskrcnn.training.presets import Recipe, describe_recipe
from maskrcnn.training.splits import Splits
from maskrcnn.weights.model_files import CONFIG_FILE, WEIGHTS_FILE
from maskrcnn.weights.model_folder import save_config

logger = logging.getLogger(__name__)

CHECKPOINTS = "checkpoints"  # folder in the model's folder

# settings that may change when a run is resumed, since they leave what was trained so far as it is
FREE_SETTINGS = (
    "epochs", "evaluate_every", "eval_batch_size", "eval_samples", "xla", "eagerly", "precision", "keep",
    "checkpoint_every", "patience", "max_time",
    # what is changed after a loss that was not finite
    "init_learning_rate", "learning_rate_values", "learning_rate_boundaries", "clip_norm",
)  # fmt: skip


def base_config(config: Config | Recipe) -> Config:
    """The config as far as it is known before the dataset is."""
    return config.base if isinstance(config, Recipe) else config


def freeze_config(config: Config | Recipe, splits: Splits, model_dir: Path, *, write: bool) -> Config:
    """Completes the config of a run, checks that it may start or resume in a folder, and saves its config there.

    Args:
        config: of the run; a recipe is completed, or where the run resumes, taken as it was completed at first.
        splits: of the run, which have its categories.
        model_dir: of the run.
        write: whether this process saves the config.

    Raises:
        UserError: the folder holds a run with other categories or settings, or a model without checkpoints.
    """
    resumes = bool(list_checkpoints(model_dir / CHECKPOINTS))
    if resumes and not (model_dir / CONFIG_FILE).is_file():
        raise UserError(f"{model_dir}: has checkpoints but no {CONFIG_FILE}; put it back, or give another --model_dir")
    if isinstance(config, Recipe):
        config = _complete(config, splits, load_config(model_dir / CONFIG_FILE) if resumes else None)
    if splits.train:
        config = fit_config(config, splits.train)
    config = dataclasses.replace(config, categories=splits.categories)
    config = Config.from_dict(dataclasses.asdict(config))  # one that a program made is checked here
    if resumes:
        check_same_run(config, model_dir)
    elif (model_dir / WEIGHTS_FILE).exists():
        raise UserError(
            f"{model_dir}: holds a trained model but no checkpoints to resume from; give another --model_dir, and "
            f"--weights {model_dir} to start from this model"
        )
    if write:
        save_config(config, model_dir)
    return config


def _complete(recipe: Recipe, splits: Splits, earlier: Config | None) -> Config:
    if earlier is not None:
        return earlier.override(dict(recipe.settings))
    images = splits.train.num_examples if splits.train else 0
    config = recipe.complete(images=images, on_cpu=computes_on_cpu())
    if recipe.largest_batch:
        config = with_largest_batch(config, on_cpu=computes_on_cpu())
    logger.info("preset %s: %s", recipe.preset, describe_recipe(config))
    return config


def check_same_run(config: Config, model_dir: Path) -> None:
    """Checks that the run in a folder has the same categories and settings.

    Raises:
        UserError: it has others.
    """
    earlier = load_config(model_dir / CONFIG_FILE)
    if earlier.categories != config.categories:
        difference = _describe_difference(earlier.categories, config.categories)
        raise UserError(
            f"{model_dir}: holds a model of {difference}; give another --model_dir, and --weights {model_dir} to start "
            "from this model"
        )
    before, now = _leaves(dataclasses.asdict(earlier)), _leaves(dataclasses.asdict(config))
    free = {f"train.{name}" for name in FREE_SETTINGS}
    changes = {name: f"{name} {before[name]} -> {now[name]}" for name in now if before[name] != now[name]}
    if allowed := [change for name, change in changes.items() if name in free]:
        logger.info("resuming with other settings: %s", ", ".join(allowed))
    if changed := [change for name, change in changes.items() if name not in free]:
        raise UserError(
            f"{model_dir}: holds a run with other settings ({', '.join(changed)}); "
            "give the same ones, or another --model_dir"
        )


def _describe_difference(ours: Sequence[Category], theirs: Sequence[Category]) -> str:
    """How the categories of a model differ from those of the data."""
    pairs = [(one, other) for one, other in zip(ours, theirs, strict=False) if one != other]
    if len(ours) == len(theirs) and all(one.name == other.name for one, other in pairs):
        return "other category ids: " + _listed(
            [f"{one.name} is {one.id}, in the data {other.id}" for one, other in pairs]
        )
    if len(ours) == len(theirs) and all(one.id == other.id for one, other in pairs):
        return "other category names: " + _listed(
            [f"{one.id} is {one.name}, in the data {other.name}" for one, other in pairs]
        )
    return f"{_count(ours)}, the data has {_count(theirs)}"


def _count(categories: Sequence[Category]) -> str:
    noun = "class" if len(categories) == 1 else "classes"
    return f"{len(categories)} {noun} ({_listed([category.name for category in categories])})"


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")


def _leaves(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested dicts as one, with dotted names."""
    leaves: dict[str, Any] = {}
    for name, value in values.items():
        leaves |= _leaves(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name: value}
    return leaves
