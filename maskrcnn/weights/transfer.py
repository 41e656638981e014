"""Starting a training from weights that exist: of the backbone alone, or of a whole model."""

import logging
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from keras import ops
from numpy.typing import NDArray

from maskrcnn.config import Category, Config, ModelConfig
from maskrcnn.errors import UserError
from maskrcnn.model import MaskRCNN
from maskrcnn.weights import model_folder
from maskrcnn.weights.architectures import read_checkpoint
from maskrcnn.weights.formats.checkpoint_files import read_tensors
from maskrcnn.weights.importing import BACKBONE_FILE, categories_of
from maskrcnn.weights.published import find_downloaded
from maskrcnn.weights.rules import Converted, listed
from maskrcnn.weights.variables import assign, backbone_variables, model_variables

Array = NDArray[Any]

logger = logging.getLogger(__name__)

# Layers whose last axis goes by class, each with so many numbers for one
CLASS_LAYERS = {"box_head/classes": 1, "box_head/deltas": 4, "mask_head/masks": 1}

# What the tensors' shapes do not show but their numbers depend on
BACKBONE_SETTINGS = (
    "backbone.depth",
    "backbone.width",
    "backbone.stride_in_1x1",
    "image.mean",
    "image.std",
    "image.bgr",
)
WHOLE_SETTINGS = (
    *BACKBONE_SETTINGS,
    "norm.epsilon",
    "fpn.norm",
    "anchors.sizes",
    "anchors.aspect_ratios",
    "anchors.rounded",
    "rpn.convolutions",
    "roi_align.aligned",
    "box_head.convolutions",
    "box_head.norm",
    "box_head.dense_layers",
    "box_head.delta_weights",
    "mask_head.norm",
)


class Transfer(NamedTuple):
    """What became of one part of the model."""

    part: str
    kept: int  # variables, or of a class-wise layer classes, as they were in the source
    mapped: int  # classes whose weights came from the class of the same name
    new: int  # classes that start at random
    note: str = ""


class Source(NamedTuple):
    """A whole model's weights, from wherever."""

    values: dict[str, Array]  # by our variables' names
    categories: tuple[Category, ...]


def load_backbone(model: MaskRCNN, path: str | Path) -> None:
    """Sets the backbone's variables.

    Args:
        model: whose backbone is set.
        path: an ImageNet or a whole checkpoint (.pth, .safetensors, .pkl), a model folder, an imported backbone, a
            backbone's .weights.h5, or the name of a published checkpoint that has been downloaded.

    Raises:
        UserError: nothing there, or a backbone of another architecture; no variable has changed.
    """
    path = find_downloaded(path)
    if (path / BACKBONE_FILE).is_file():
        path = path / BACKBONE_FILE
    if path.is_dir() or not path.is_file() or path.suffix == ".h5":
        model_folder.load_backbone(model, path)
        return
    checkpoint = read_checkpoint(read_tensors(path), path)
    _check_settings(checkpoint.config, model.config, path, BACKBONE_SETTINGS)
    tensors = {name: tensor for name, tensor in checkpoint.tensors.items() if name.startswith("resnet/")}
    assign(backbone_variables(model), tensors, path=path)


def load_start(model: MaskRCNN, *, backbone_checkpoint: str | Path | None, weights: str | Path | None) -> None:
    """Gives a model that is about to be trained the weights that the user named, if any, and logs what came of it.

    Raises:
        UserError: see `load_backbone` and `load_whole`; or both are given.
    """
    if backbone_checkpoint and weights:
        raise UserError("--weights holds a backbone too; give either --weights or --backbone_checkpoint")
    if backbone_checkpoint:
        load_backbone(model, backbone_checkpoint)
    if weights:
        logger.info("%s", format_transfers(load_whole(model, weights)))


def weights_config(path: str | Path) -> ModelConfig:
    """The architecture of a model folder or a checkpoint: what a model needs to take its weights.

    Raises:
        UserError: nothing there, or nothing that is known.
    """
    path = find_downloaded(path)
    if path.is_dir():
        return model_folder.load_model_config(path).model
    return read_checkpoint(read_tensors(path), path).config.model


def load_whole(model: MaskRCNN, path: str | Path) -> list[Transfer]:
    """Sets all of a model's variables from another model; its class-wise layers class by class, by name.

    Where the categories are the same, everything is kept. Otherwise a class takes the weights of the class with its
    name, and one without a namesake keeps its random start. The background is always kept.

    Args:
        model: whose config's categories name the classes wanted.
        path: a model folder, a checkpoint, or the name of a published one that has been downloaded.

    Returns:
        What was kept, mapped and new, part by part; `format_transfers` makes a table of it.

    Raises:
        UserError: nothing there, or another architecture; no variable has changed.
    """
    path = find_downloaded(path)
    source = _read_source(path, model.config)
    variables = model_variables(model)
    mapping = _map_classes(source.categories, model.config.categories)
    values = {}
    for name, variable in variables.items():
        layer = name.rpartition("/")[0]
        value = source.values.get(name)
        if value is not None and layer in CLASS_LAYERS and mapping is not None:
            value = _map_rows(value, np.asarray(ops.convert_to_numpy(variable)), mapping, CLASS_LAYERS[layer])
        if value is not None:
            values[name] = Converted(name, value)
    extra = {name: Converted(name, value) for name, value in source.values.items() if name not in variables}
    assign(variables, {**values, **extra}, path=path)
    return _report(variables, mapping, model.config.categories)


def format_transfers(rows: list[Transfer]) -> str:
    """The table for the terminal."""
    lines = [f"{'part':18} {'kept':>6} {'mapped':>6} {'new':>6}"]
    lines += [f"{row.part:18} {row.kept:6} {row.mapped:6} {row.new:6}  {row.note}".rstrip() for row in rows]
    return "\n".join(lines)


def _read_source(path: Path, config: Config) -> Source:
    if path.is_dir():
        model, saved = model_folder.load_model(path)
        _check_settings(saved, config, path, WHOLE_SETTINGS)
        values = {name: np.asarray(ops.convert_to_numpy(v)) for name, v in model_variables(model).items()}
        return Source(values, saved.categories)
    checkpoint = read_checkpoint(read_tensors(path), path)
    if not checkpoint.num_classes:
        raise UserError(f"{path}: a backbone, not a whole model; give it as --backbone_checkpoint")
    _check_settings(checkpoint.config, config, path, WHOLE_SETTINGS)
    categories = categories_of(checkpoint) or ()
    return Source({name: tensor.value for name, tensor in checkpoint.tensors.items()}, categories)


def _check_settings(theirs: Config, config: Config, path: Path, fields: tuple[str, ...]) -> None:
    """Settings without which the weights would not fit or give nonsense.

    Raises:
        UserError: the model's config has other ones.
    """
    different = [
        f"{name}={_text(_field(theirs, name))}" for name in fields if _field(config, name) != _field(theirs, name)
    ]
    if different:
        remedy = " ".join(f"--set {setting}" for setting in different)
        raise UserError(f"{path}: these weights are of a model with other settings; add {remedy}")


def _field(config: Config, path: str) -> Any:
    value: Any = config.model
    for name in path.split("."):
        value = getattr(value, name)
    return value


def _text(value: Any) -> str:
    if isinstance(value, tuple):
        return f"[{','.join(map(str, value))}]"
    return str(value).lower() if isinstance(value, bool) else str(value)


def _map_classes(source: tuple[Category, ...], target: tuple[Category, ...]) -> dict[int, int] | None:
    """Source channel by target channel, of classes with the same name; None where all channels are the same."""
    if [(c.index, c.name) for c in source] == [(c.index, c.name) for c in target]:
        return None
    by_name = {category.name.casefold(): category.index for category in source}
    mapping = {0: 0}
    for category in target:
        if category.name.casefold() in by_name:
            mapping[category.index] = by_name[category.name.casefold()]
    return mapping


def _map_rows(source: Array, start: Array, mapping: Mapping[int, int], per_class: int) -> Array:
    """``start`` with the numbers of the mapped classes taken from ``source``; the last axis goes by class."""
    if source.shape[:-1] != start.shape[:-1]:
        return source  # another architecture, which the check of shapes reports
    rows = start.reshape(*start.shape[:-1], -1, per_class).copy()
    theirs = source.reshape(*source.shape[:-1], -1, per_class)
    for target, index in mapping.items():
        rows[..., target, :] = theirs[..., index, :]
    return rows.reshape(start.shape)


def _report(
    variables: Mapping[str, Any], mapping: Mapping[int, int] | None, categories: tuple[Category, ...]
) -> list[Transfer]:
    parts = Counter(name.partition("/")[0] for name in variables if name.rpartition("/")[0] not in CLASS_LAYERS)
    rows = [Transfer(part, count, 0, 0, "variables") for part, count in parts.items()]
    for layer in CLASS_LAYERS:
        if mapping is None:
            rows.append(Transfer(layer, len(categories) + 1, 0, 0, "classes"))
        else:
            new = [category.name for category in categories if category.index not in mapping]
            note = f"classes; new: {listed(new)}" if new else "classes"
            rows.append(Transfer(layer, 1, len(mapping) - 1, len(new), note))
    return rows
