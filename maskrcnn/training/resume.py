"""Whether a run may resume in a folder where another one has been."""

import dataclasses
from pathlib import Path
from typing import Any

from maskrcnn.config import Config, load_config
from maskrcnn.errors import UserError
from maskrcnn.weights.model_folder import CONFIG_FILE, WEIGHTS_FILE

# settings that may change between two runs on one folder: they leave what was trained so far as it is
FREE_SETTINGS = (
    "epochs", "evaluate_every", "eval_batch_size", "eval_samples", "xla", "eagerly", "precision", "keep",
    "checkpoint_every",
)  # fmt: skip


def holds_run(model_dir: Path) -> bool:
    """Whether a run has begun in a folder, though it may not have saved anything yet."""
    return (model_dir / CONFIG_FILE).is_file()


def check_same_run(config: Config, model_dir: Path) -> None:
    """Makes sure that a run may go on in a folder where another may have been.

    Raises:
        UserError: that other one had other categories or settings.
    """
    if not (model_dir / CONFIG_FILE).is_file() or not any(
        (model_dir / name).exists() for name in (WEIGHTS_FILE, "checkpoints")
    ):
        return
    earlier = load_config(model_dir / CONFIG_FILE)
    if earlier.categories != config.categories:
        raise UserError(
            f"{model_dir}: holds a model of {len(earlier.categories)} classes ({_names(earlier)}), the data have "
            f"{len(config.categories)} ({_names(config)}); give another --model_dir"
        )
    before, now = _leaves(dataclasses.asdict(earlier)), _leaves(dataclasses.asdict(config))
    free = {f"train.{name}" for name in FREE_SETTINGS}
    changed = [
        f"{name} {before[name]} -> {now[name]}" for name in now if before[name] != now[name] and name not in free
    ]
    if changed:
        raise UserError(
            f"{model_dir}: holds a run with other settings ({', '.join(changed)}); "
            "give the same ones, or another --model_dir"
        )


def _names(config: Config) -> str:
    listed = ", ".join(category.name for category in config.categories[:5])
    return listed + (", ..." if len(config.categories) > 5 else "")


def _leaves(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested dicts as one of dotted names."""
    leaves: dict[str, Any] = {}
    for name, value in values.items():
        leaves |= _leaves(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name: value}
    return leaves
