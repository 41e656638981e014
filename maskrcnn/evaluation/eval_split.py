"""Opens the split and the ground truth of an evaluation, and refuses those of other images or categories."""

import dataclasses
import logging
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePath
from typing import Any, NamedTuple

from maskrcnn.config import Category, Config
from maskrcnn.data.coco.classes import index_categories
from maskrcnn.data.coco.ground_truth import load_ground_truth
from maskrcnn.data.splits import Dataset, Split, SplitName, find_dataset
from maskrcnn.errors import UserError

logger = logging.getLogger(__name__)


class ImageRow(NamedTuple):
    """The facts by which an image is recognized."""

    id: int
    file_name: str | None  # without folders; None where it is not known
    size: tuple[int, int] | None  # height and width, px; None where it is not known

    def __str__(self) -> str:
        size = f"{self.size[1]}x{self.size[0]} px" if self.size else "size not given"
        return f"{self.file_name or 'an image'} ({size})"

    def may_be(self, other: "ImageRow") -> bool:
        """Whether nothing that is known of both differs."""
        same_name = not self.file_name or not other.file_name or self.file_name == other.file_name
        return same_name and (not self.size or not other.size or self.size == other.size)


def open_eval_split(
    config: Config,
    data_dir: str | Path,
    cache_dir: str | Path,
    *,
    name: SplitName = "val",
    eval_file: str | Path | None = None,
    announce: bool = False,
) -> Split:
    """Opens the split that a model of this config is evaluated on, converted first where that was not done.

    Args:
        config: the model's config, whose categories must include those of the ground truth.
        data_dir: the dataset.
        cache_dir: folder for converted data where ``data_dir`` cannot be written.
        name: the split.
        eval_file: COCO annotations to compare with, instead of the split's own. A dataset without the split is
            searched for the images of this file.
        announce: whether to log what dataset this is.

    Raises:
        UserError: the split cannot be opened, has no ground truth or other categories than the model, or ``eval_file``
            annotates other images.
    """
    dataset, is_own = _find_split(config, data_dir, cache_dir, name, eval_file)
    dataset.convert(name, announce=announce)
    split = dataset.open(name)
    if eval_file is None or not is_own:
        if split.annotation_file is None:
            raise UserError(
                f"{data_dir}: the {name} split has no masks to compare with; give COCO annotations with --eval_file"
            )
        check_categories(split.categories, config, f"{data_dir}: its {name} split has")
        return split
    path = Path(eval_file)
    content = load_ground_truth(path)
    categories = {category["id"]: category["name"] for category in content["categories"]}
    check_categories(index_categories(categories), config, f"{path}: has")
    check_same_images(path, content, split, config.train.eval_samples)
    return dataclasses.replace(split, annotation_file=path)


def _find_split(
    config: Config, data_dir: str | Path, cache_dir: str | Path, name: SplitName, eval_file: str | Path | None
) -> tuple[Dataset, bool]:
    """The dataset with the split, and whether it is its own; otherwise ``eval_file`` and its images make it."""
    try:
        dataset = find_dataset(data_dir, config.data, cache_dir=cache_dir)
        if eval_file is None or (name in dataset.names and not (name == "val" and dataset.held_out)):
            return dataset, True
    except UserError:
        if eval_file is None:
            raise
    options = dataclasses.replace(config.data, **{f"{name}_file": str(eval_file)})
    return find_dataset(data_dir, options, cache_dir=cache_dir), False


def check_categories(categories: Sequence[Category], config: Config, subject: str) -> None:
    """Refuses categories that the model does not have.

    Raises:
        UserError: ``subject`` and the categories of both.
    """
    known = {(category.id, category.name) for category in config.categories}
    if not {(category.id, category.name) for category in categories} <= known:
        raise UserError(
            f"{subject} the categories {names(categories)}, the model has {names(config.categories)}; give the data "
            "that the model was trained for"
        )


def check_same_images(path: Path, content: dict[str, Any], split: Split, num_images: int | None = None) -> None:
    """Refuses annotations of other images than those of a split, which have the same ids by chance.

    Args:
        path: the annotation file.
        content: its parsed content.
        split: the images that are predicted.
        num_images: check only the first N of them; None checks all.

    Raises:
        UserError: the first image that is missing, or has another name or size.
    """
    annotated = {row.id: row for row in _image_rows(content["images"])}
    for image in _split_images(split)[:num_images]:
        row = annotated.get(image.id)
        if row is None:
            raise UserError(
                f"{path}: no image with id {image.id}, which is {image} in the {split.name} split; "
                "give the annotations of the same images"
            )
        if not row.may_be(image):
            raise UserError(
                f"{path}: image {image.id} is {row}, in the {split.name} split it is {image}; give the annotations of "
                "the same images"
            )


def names(categories: Sequence[Category], *, most: int = 5) -> str:
    """Lists ids and names: ``1 circle, 2 square, ... (80 in all)``."""
    listed = ", ".join(f"{category.id} {category.name}" for category in categories[:most])
    return f"{listed}, ... ({len(categories)} in all)" if len(categories) > most else listed or "none"


def _image_rows(images: Iterable[Any]) -> list[ImageRow]:
    """The rows of checked images, see `load_ground_truth`."""
    rows = []
    for image in images:
        file_name = PurePath(image["file_name"].replace("\\", "/")).name
        rows.append(ImageRow(image["id"], file_name or None, (image["height"], image["width"])))
    return rows


def _split_images(split: Split) -> list[ImageRow]:
    """The images of a split, in its order, with the names that its own annotations give them."""
    own = load_ground_truth(split.annotation_file)["images"] if split.annotation_file is not None else []
    file_names = {row.id: row.file_name for row in _image_rows(own)}
    ids, sizes = split.index.image_ids.tolist(), split.index.sizes.tolist()
    return [ImageRow(id_, file_names.get(id_), (size[0], size[1])) for id_, size in zip(ids, sizes, strict=True)]
