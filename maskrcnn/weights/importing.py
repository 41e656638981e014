"""Published checkpoints as model folders."""

import dataclasses
import json
from pathlib import Path
from typing import Any, NamedTuple

from maskrcnn.config import Category, Config
from maskrcnn.errors import UserError
from maskrcnn.model import MaskRCNN
from maskrcnn.model.resnet import resnet
from maskrcnn.runtime.files import replacing
from maskrcnn.weights.architectures import COCO_CHANNELS, Checkpoint, read_checkpoint
from maskrcnn.weights.coco_categories import NAMES, coco_categories
from maskrcnn.weights.formats.checkpoint_files import read_tensors
from maskrcnn.weights.model_folder import WEIGHTS_FILE, save_config, save_model
from maskrcnn.weights.rules import DETECTRON2
from maskrcnn.weights.variables import assign, model_variables

BACKBONE_FILE = "backbone.weights.h5"  # in the folder of an imported backbone, in the place of a model's weights


class Imported(NamedTuple):
    """What an import has made."""

    title: str
    config: Config
    num_tensors: int
    hint: str  # what the user may have to set


def import_checkpoint(
    path: str | Path, model_dir: str | Path, *, labels: str | Path | None = None, settings: dict[str, Any] | None = None
) -> Imported:
    """Turns a checkpoint into a model folder, or, without heads, into a folder for ``--backbone_checkpoint``.

    Args:
        path: .pth, .safetensors or .pkl.
        model_dir: gets config.json and the weights, if all went well.
        labels: names of the classes, see `read_labels`; None takes COCO's where their number fits.
        settings: dotted config fields that replace what the checkpoint is known for.

    Raises:
        UserError: a file that cannot be read or does not fit, or a folder that holds a model; nothing is written.
    """
    path, model_dir = Path(path), Path(model_dir)
    taken = [name for name in (WEIGHTS_FILE, BACKBONE_FILE, "checkpoints") if (model_dir / name).exists()]
    if taken:
        raise UserError(f"{model_dir}: holds a model already ({taken[0]}); give another --model_dir")
    checkpoint = read_checkpoint(read_tensors(path), path)
    config = checkpoint.config.override(settings or {})
    if checkpoint.num_classes:
        config = _with_categories(config, checkpoint, labels, path)
        model = MaskRCNN(config)
        assign(model_variables(model), checkpoint.tensors, path=path)
        save_model(model, config, model_dir)
    else:
        _import_backbone(checkpoint, config, model_dir, path)
    return Imported(checkpoint.family.title, config, len(checkpoint.tensors), checkpoint.hint)


def categories_of(checkpoint: Checkpoint) -> tuple[Category, ...] | None:
    """COCO's categories where the number of classes is theirs; None otherwise."""
    contiguous = checkpoint.family.naming is DETECTRON2
    expected = len(NAMES) + 1 if contiguous else COCO_CHANNELS
    return coco_categories(contiguous=contiguous) if checkpoint.num_classes == expected else None


def read_labels(path: str | Path, num_classes: int) -> tuple[Category, ...]:
    """The categories of a model with ``num_classes`` channels, the background included.

    Args:
        path: text with a class name a line, from channel 1 on ("N/A" skips one, and a "__background__" first is
            left out); or COCO annotations, whose ids are the channels if they fit, and are counted up otherwise.
        num_classes: of the model.

    Raises:
        UserError: the file cannot be read, or has another number of classes.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
        categories = _labels_of_json(text, num_classes) if text.lstrip().startswith("{") else _labels_of_lines(text)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); expected class names") from error
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path}: no class names ({error}); write one a line, or give COCO annotations") from error
    channels = 1 + max((category.index for category in categories), default=0)
    if channels != num_classes:
        raise UserError(f"{path}: names {channels - 1} classes, the checkpoint has {num_classes - 1}")
    return categories


def _labels_of_json(text: str, num_classes: int) -> tuple[Category, ...]:
    names = {int(row["id"]): str(row["name"]) for row in json.loads(text)["categories"]}
    by_id = max(names, default=0) == num_classes - 1
    return tuple(Category(id_ if by_id else i, id_, names[id_]) for i, id_ in enumerate(sorted(names), start=1))


def _labels_of_lines(text: str) -> tuple[Category, ...]:
    names = [line.strip() for line in text.splitlines() if line.strip()]
    if names[:1] == ["__background__"]:
        names = names[1:]
    return tuple(Category(i, i, name) for i, name in enumerate(names, start=1) if name != "N/A")


def _with_categories(config: Config, checkpoint: Checkpoint, labels: str | Path | None, path: Path) -> Config:
    categories = read_labels(labels, checkpoint.num_classes) if labels else categories_of(checkpoint)
    if categories is None:
        raise UserError(
            f"{path}: has {checkpoint.num_classes - 1} classes, not COCO's; name them with --labels FILE (one a line)"
        )
    return dataclasses.replace(config, categories=categories)


def _import_backbone(checkpoint: Checkpoint, config: Config, model_dir: Path, path: Path) -> None:
    backbone = resnet(config.model.backbone, config.model.norm)
    variables = {f"resnet/{variable.path}": variable for variable in backbone.variables}
    assign(variables, checkpoint.tensors, path=path)
    save_config(config, model_dir)
    with replacing(model_dir / BACKBONE_FILE) as temporary:
        backbone.save_weights(temporary)
