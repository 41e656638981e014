"""Builds models from checkpoints, in memory or as model folders."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from maskrcnn.config import Category, Config
from maskrcnn.errors import UserError
from maskrcnn.input_files import MAX_ANNOTATION_BYTES, parse_json, read_bytes
from maskrcnn.model import MaskRCNN
from maskrcnn.model.resnet import resnet
from maskrcnn.weights.architectures import COCO_CHANNELS, ConvertedCheckpoint, read_checkpoint
from maskrcnn.weights.coco_categories import NAMES, coco_categories
from maskrcnn.weights.formats.checkpoint_files import read_tensors
from maskrcnn.weights.model_files import CONFIG_FILE, WEIGHTS_FILE, find_weights_file, load_model_config
from maskrcnn.weights.model_folder import (
    compile_for_use,
    load_for_use,
    prepare_backend,
    save_config,
    save_model,
    save_weights,
)
from maskrcnn.weights.rules import DETECTRON2
from maskrcnn.weights.variables import assign, model_variables

BACKBONE_FILE = "backbone.weights.h5"  # in the folder of an imported backbone, instead of a model's weights


class Imported(NamedTuple):
    """The outcome of an import."""

    title: str
    config: Config
    num_tensors: int
    hint: str  # a setting that the user may have to make


def import_checkpoint(
    path: str | Path,
    model_dir: str | Path,
    *,
    labels: str | Path | None = None,
    settings: Mapping[str, Any] | None = None,
) -> Imported:
    """Writes a checkpoint as a model folder or, if it has no heads, as a folder for ``--backbone_checkpoint``.

    Args:
        path: a .pth, .safetensors or .pkl file.
        model_dir: folder for config.json and the weights.
        labels: file of class names, see `read_labels`; None takes COCO's if their number fits.
        settings: dotted config fields that replace those detected.

    Raises:
        UserError: a file that cannot be read or does not fit, or a folder that holds a model. Nothing is written then.
    """
    path, model_dir = Path(path), Path(model_dir)
    existing = [name for name in (WEIGHTS_FILE, BACKBONE_FILE, "checkpoints") if (model_dir / name).exists()]
    if existing:
        raise UserError(f"{model_dir}: already holds a model ({existing[0]}); give another --model_dir")
    checkpoint = read_checkpoint(read_tensors(path), path)
    config = checkpoint.config.override(dict(settings or {}))
    if checkpoint.num_classes:
        config = _with_categories(config, checkpoint, labels, path)
        save_model(_build(checkpoint, config, path), config, model_dir)
    else:
        _import_backbone(checkpoint, config, model_dir, path)
    return Imported(checkpoint.family.title, config, len(checkpoint.tensors), checkpoint.hint)


class OpenedModel(NamedTuple):
    """A trained model that is not built yet, so that its config can still be changed."""

    path: Path  # model folder or checkpoint
    config: Config
    checkpoint: ConvertedCheckpoint | None  # None for a model folder

    @property
    def files(self) -> tuple[Path, ...]:
        """The files that the model is read from."""
        return (self.path,) if self.checkpoint else (self.path / CONFIG_FILE, find_weights_file(self.path))

    def load(self, config: Config) -> MaskRCNN:
        """Builds the model, with its weights, in the precision of ``config``."""
        if self.checkpoint is None:
            return load_for_use(self.path, config)
        prepare_backend(config)
        model = _build(self.checkpoint, config, self.path)
        compile_for_use(model, config)
        return model


def open_model(path: str | Path) -> OpenedModel:
    """Opens a model folder or a checkpoint of a whole model.

    Raises:
        UserError: no model, a backbone alone, or classes without names.
    """
    path = Path(path)
    if not path.is_file():
        return OpenedModel(path, load_model_config(path), None)
    checkpoint = read_checkpoint(read_tensors(path), path)
    if not checkpoint.num_classes:
        raise UserError(f"{path}: a backbone, not a whole model; train with --backbone_checkpoint {path}")
    return OpenedModel(path, _with_categories(checkpoint.config, checkpoint, None, path), checkpoint)


def _build(checkpoint: ConvertedCheckpoint, config: Config, path: Path) -> MaskRCNN:
    model = MaskRCNN(config)
    assign(model_variables(model), checkpoint.tensors, path=path)
    return model


def categories_of(checkpoint: ConvertedCheckpoint) -> tuple[Category, ...] | None:
    """COCO's categories if their number is that of the checkpoint's classes; otherwise None."""
    contiguous = checkpoint.family.naming is DETECTRON2
    expected = len(NAMES) + 1 if contiguous else COCO_CHANNELS
    return coco_categories(contiguous=contiguous) if checkpoint.num_classes == expected else None


def read_labels(path: str | Path, num_classes: int) -> tuple[Category, ...]:
    """Reads the categories of a model with ``num_classes`` channels, including the background.

    Args:
        path: text with one class name per line, starting with channel 1 ("N/A" skips a channel; "__background__" in the
            first line is ignored), or COCO annotations, whose ids are the channels if the largest one fits, and are
            numbered in their order otherwise.
        num_classes: channels of the class-wise heads.

    Raises:
        UserError: the file cannot be read, or names another number of classes.
    """
    path = Path(path)
    data = read_bytes(path, MAX_ANNOTATION_BYTES)
    try:
        text = data.decode("utf-8-sig")
        categories = _json_labels(text, num_classes) if text.lstrip().startswith("{") else _text_labels(text)
        Config.from_dict({"categories": [dataclasses.asdict(category) for category in categories]})
    except (ValueError, KeyError, TypeError, OverflowError, UserError) as error:
        raise UserError(f"{path}: no class names ({error}); write one per line, or give COCO annotations") from error
    channels = 1 + max((category.index for category in categories), default=0)
    if channels != num_classes:
        raise UserError(f"{path}: names {channels - 1} classes, the checkpoint has {num_classes - 1}")
    return categories


def _json_labels(text: str, num_classes: int) -> tuple[Category, ...]:
    names = {int(row["id"]): str(row["name"]) for row in parse_json(text)["categories"]}
    by_id = max(names, default=0) == num_classes - 1
    return tuple(Category(id_ if by_id else i, id_, names[id_]) for i, id_ in enumerate(sorted(names), start=1))


def _text_labels(text: str) -> tuple[Category, ...]:
    names = [line.strip() for line in text.splitlines() if line.strip()]
    if names[:1] == ["__background__"]:
        names = names[1:]
    return tuple(Category(i, i, name) for i, name in enumerate(names, start=1) if name != "N/A")


def _with_categories(config: Config, checkpoint: ConvertedCheckpoint, labels: str | Path | None, path: Path) -> Config:
    categories = read_labels(labels, checkpoint.num_classes) if labels else categories_of(checkpoint)
    if categories is None:
        raise UserError(
            f"{path}: has {checkpoint.num_classes - 1} classes, not COCO's; "
            "name them with `maskrcnn weights import` and --labels FILE (one per line)"
        )
    return dataclasses.replace(config, categories=categories)


def _import_backbone(checkpoint: ConvertedCheckpoint, config: Config, model_dir: Path, path: Path) -> None:
    backbone = resnet(config.model.backbone, config.model.norm)
    variables = {f"resnet/{variable.path}": variable for variable in backbone.variables}
    assign(variables, checkpoint.tensors, path=path)
    save_config(config, model_dir)
    save_weights(backbone, model_dir / BACKBONE_FILE)
