"""Initializes a model from existing weights: of the backbone alone, or of a whole model."""

import json
import logging
from collections import Counter
from collections.abc import Mapping
from operator import attrgetter
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from keras import ops
from numpy.typing import NDArray

from maskrcnn.config import Category, Config, ModelConfig
from maskrcnn.errors import UserError
from maskrcnn.model import MaskRCNN
from maskrcnn.model.backbones import load_imagenet
from maskrcnn.weights import model_folder
from maskrcnn.weights.architectures import read_checkpoint
from maskrcnn.weights.formats.checkpoint_files import read_tensors
from maskrcnn.weights.importing import BACKBONE_FILE, categories_of
from maskrcnn.weights.published import find_weights
from maskrcnn.weights.rules import ConvertedTensor, listed
from maskrcnn.weights.variables import assign, backbone_variables, model_variables, variable_values

Array = NDArray[Any]

logger = logging.getLogger(__name__)

IMAGENET = "imagenet"  # for --backbone_checkpoint

# Layers whose last axis runs over the classes, with the number of values per class
CLASS_LAYERS = {"box_head/classes": 1, "box_head/deltas": 4, "mask_head/masks": 1}

# Settings that the weights depend on and their shapes do not show
BACKBONE_SETTINGS = (
    "backbone.name",
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
    """The outcome for one part of the model."""

    part: str
    kept: int  # variables (classes in class-wise layers) that are as in the source
    mapped: int  # classes with the weights of the class of the same name
    new: int  # classes that start with random weights
    note: str = ""


def load_backbone(model: MaskRCNN, path: str | Path) -> None:
    """Sets the backbone's variables.

    Args:
        model: the model to change.
        path: an ImageNet checkpoint or one of a whole model (.pth, .safetensors, .pkl), a model folder, an imported
            backbone, a backbone's .weights.h5, a published name or a URL, see `find_weights`; or "imagenet", the
            weights that keras.applications has for ``backbone.name``.

    Raises:
        UserError: nothing there, or a backbone of another architecture. No variable has changed then.
    """
    name = model.config.model.backbone.name
    if path == IMAGENET:
        if name is None:
            raise UserError("imagenet is for backbone.name; for a ResNet give resnet50 or another published name")
        load_imagenet(model.resnet, name)
        return
    path = find_weights(path)
    if (path / BACKBONE_FILE).is_file():
        path = path / BACKBONE_FILE
    if path.is_dir():
        _copy_backbone(model_folder.load_model(path)[0], model, path)
        return
    if path.suffix == ".h5":
        model_folder.load_weights(model.resnet, path)
        return
    checkpoint = read_checkpoint(read_tensors(path), path)
    _check_settings(checkpoint.config, model.config, path, BACKBONE_SETTINGS)
    tensors = {name: tensor for name, tensor in checkpoint.tensors.items() if name.startswith("resnet/")}
    assign(backbone_variables(model), tensors, path=path)


def load_start(model: MaskRCNN, *, backbone_checkpoint: str | Path | None, weights: str | Path | None) -> None:
    """Initializes a model before training with the weights that the user named, if any, and logs the outcome.

    Raises:
        UserError: see `load_backbone` and `load_whole`; or both are given.
    """
    if backbone_checkpoint and weights:
        raise UserError("--weights includes a backbone; give either --weights or --backbone_checkpoint")
    if backbone_checkpoint:
        load_backbone(model, backbone_checkpoint)
    if weights:
        logger.info("%s", format_transfers(load_whole(model, weights)))


def weights_config(path: str | Path) -> ModelConfig:
    """The architecture of a model folder or checkpoint, which a model needs to take its weights.

    Raises:
        UserError: nothing there, or an unknown architecture.
    """
    path = find_weights(path)
    if path.is_dir():
        return model_folder.load_model_config(path).model
    return read_checkpoint(read_tensors(path), path).config.model


def load_whole(model: MaskRCNN, path: str | Path) -> list[Transfer]:
    """Sets all variables of a model from another one, and those of class-wise layers by class name.

    If the categories are the same, all weights are kept. Otherwise a class takes the weights of the class of the same
    name, or keeps its random ones if there is none. The background is always kept.

    Args:
        model: the model to change, whose config names the classes.
        path: a model folder, a checkpoint, a published name or a URL, see `find_weights`.

    Returns:
        What was kept, mapped and new in each part; see `format_transfers`.

    Raises:
        UserError: nothing there, or another architecture. No variable has changed then.
    """
    path = find_weights(path)
    source, categories = _read_source(path, model.config)
    variables = model_variables(model)
    mapping = _map_classes(categories, model.config.categories)
    values = {}
    for name, variable in variables.items():
        layer = name.rpartition("/")[0]
        value = source.get(name)
        if value is not None and layer in CLASS_LAYERS and mapping is not None:
            value = _map_rows(value, np.asarray(ops.convert_to_numpy(variable)), mapping, CLASS_LAYERS[layer])
        if value is not None:
            values[name] = ConvertedTensor(name, value)
    extra = {name: ConvertedTensor(name, value) for name, value in source.items() if name not in variables}
    assign(variables, {**values, **extra}, path=path)
    return _report(variables, mapping, model.config.categories)


def format_transfers(rows: list[Transfer]) -> str:
    """Formats the table for the terminal."""
    lines = [f"{'part':18} {'kept':>6} {'mapped':>6} {'new':>6}"]
    lines += [f"{row.part:18} {row.kept:6} {row.mapped:6} {row.new:6}  {row.note}".rstrip() for row in rows]
    return "\n".join(lines)


def _copy_backbone(source: MaskRCNN, model: MaskRCNN, path: Path) -> None:
    values, variables = source.resnet.get_weights(), model.resnet.weights
    if [value.shape for value in values] != [tuple(variable.shape) for variable in variables]:
        raise UserError(f"{path}: has another backbone; set backbone.depth and backbone.width as in its config.json")
    model.resnet.set_weights(values)


def _read_source(path: Path, config: Config) -> tuple[dict[str, Array], tuple[Category, ...]]:
    """The weights of a whole model by the variables' names, and its categories."""
    if path.is_dir():
        model, saved = model_folder.load_model(path)
        _check_settings(saved, config, path, WHOLE_SETTINGS)
        return variable_values(model), saved.categories
    checkpoint = read_checkpoint(read_tensors(path), path)
    if not checkpoint.num_classes:
        raise UserError(f"{path}: a backbone, not a whole model; give it as --backbone_checkpoint")
    _check_settings(checkpoint.config, config, path, WHOLE_SETTINGS)
    return {name: tensor.value for name, tensor in checkpoint.tensors.items()}, categories_of(checkpoint) or ()


def _check_settings(theirs: Config, config: Config, path: Path, fields: tuple[str, ...]) -> None:
    """Compares the settings that the weights depend on.

    Raises:
        UserError: the model's config differs from that of the weights.
    """
    needed = {name: attrgetter(name)(theirs.model) for name in fields}
    different = [f"{name}={_text(value)}" for name, value in needed.items() if attrgetter(name)(config.model) != value]
    if different:
        remedy = " ".join(f"--set {setting}" for setting in different)
        raise UserError(f"{path}: these weights need other settings; add {remedy}")


def _text(value: Any) -> str:
    if isinstance(value, tuple):
        return f"[{','.join(map(str, value))}]"
    return json.dumps(value) if value is None or isinstance(value, bool) else str(value)


def _map_classes(source: tuple[Category, ...], target: tuple[Category, ...]) -> dict[int, int] | None:
    """Maps target channels to source channels by class name; None if all channels are the same."""
    if [(c.index, c.name) for c in source] == [(c.index, c.name) for c in target]:
        return None
    by_name = {category.name.casefold(): category.index for category in source}
    mapping = {0: 0}
    for category in target:
        if category.name.casefold() in by_name:
            mapping[category.index] = by_name[category.name.casefold()]
    return mapping


def _map_rows(source: Array, start: Array, mapping: Mapping[int, int], per_class: int) -> Array:
    """Returns ``start`` with the values of mapped classes taken from ``source``; the last axis is by class."""
    if source.shape[:-1] != start.shape[:-1]:
        return source  # another architecture: the check of shapes reports it
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
