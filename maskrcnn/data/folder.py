"""What ``maskrcnn data convert`` does: all splits of a folder at once, to records or to another format."""

import json
import os
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from contourpy import contour_generator
from tqdm import tqdm

from maskrcnn.config import DataConfig
from maskrcnn.data.coco.annotations import Annotation, CocoDataset, coco_content, warn
from maskrcnn.data.coco.problems import refuse
from maskrcnn.data.records.convert import coco_entries
from maskrcnn.data.records.prepare import PreparedImage, prepare_images
from maskrcnn.data.records.rasterize import decode_mask
from maskrcnn.data.splits import find_dataset
from maskrcnn.errors import UserError
from maskrcnn.runtime.files import write_text, writing

FORMATS = ("tfrecord", "coco", "yolo")
SUFFIXES = {"jpeg": ".jpg", "png": ".png"}
MIN_POINTS = 3  # of a polygon


def convert_folder(
    data_dir: str | Path,
    out_dir: str | Path | None = None,
    *,
    to: str = "tfrecord",
    options: DataConfig | None = None,
    progress: bool = True,
) -> dict[str, int]:
    """Converts all splits of a dataset; returns how many images each has.

    Args:
        data_dir: of the dataset.
        out_dir: gets the result; None: ``data_dir/tfrecords``, for TFRecords only.
        to: "tfrecord", "coco" or "yolo".
        options: how the dataset is read.
        progress: whether to show a bar.

    Raises:
        UserError: no dataset, more problems than are tolerated, or an unwritable folder.
    """
    options = options or DataConfig()
    dataset = find_dataset(data_dir, options)
    if dataset.records:
        raise UserError(f"{data_dir}: holds TFRecords already; convert the dataset that they were made of")
    if to == "tfrecord":
        target = Path(out_dir) if out_dir is not None else None
        dataset.convert(*dataset.names, out_dir=target, progress=progress)
        return {name: dataset.open(name, out_dir=target).num_examples for name in dataset.names}
    if out_dir is None:
        raise UserError(f"--to {to}: give a folder for the result with --out_dir")
    if os.path.isdir(out_dir) and os.path.samefile(out_dir, data_dir):
        raise UserError(f"{out_dir}: the result would replace the dataset; choose another --out_dir")
    splits = dataset.read(dataset.names).splits
    for name, split in splits.items():
        refuse(split.problems, split.totals, skip_bad=options.skip_bad)
        if not (name == "val" and dataset.held_out):  # whose problems are train's
            warn(split.problems)
    export = _export_yolo if to == "yolo" else _export_coco
    with writing(out_dir):
        counts = {
            name: export(split, name, Path(out_dir), skip_bad=options.skip_bad, progress=progress)
            for name, split in splits.items()
        }
        if to == "yolo":
            _write_yolo_index(splits, Path(out_dir))
    return counts


def _export_coco(split: CocoDataset, name: str, out_dir: Path, *, skip_bad: bool, progress: bool = True) -> int:
    """Writes ``annotations/instances_NAME.json`` and the images to ``NAME/``; returns how many."""
    images, annotations = [], []
    for image, file_name in _write_images(split, out_dir / name, skip_bad=skip_bad, progress=progress):
        images.append({**asdict(image.entry), "file_name": file_name})
        annotations += coco_entries(image)
    content = coco_content(images, annotations, split.categories)
    write_text(out_dir / "annotations" / f"instances_{name}.json", json.dumps(content))
    return len(images)


def _export_yolo(split: CocoDataset, name: str, out_dir: Path, *, skip_bad: bool, progress: bool = True) -> int:
    """Writes the images to ``images/NAME/`` and their polygons to ``labels/NAME/``; returns how many images.

    YOLO knows neither crowds, which are left out, nor holes, which are filled.
    """
    indices = {category.id: category.index - 1 for category in split.categories}
    labels, count = out_dir / "labels" / name, 0
    labels.mkdir(parents=True, exist_ok=True)
    for image, file_name in _write_images(split, out_dir / "images" / name, skip_bad=skip_bad, progress=progress):
        size = image.stored.width, image.stored.height
        lines = [
            " ".join([str(indices[annotation.category_id]), *(f"{value:.6g}" for value in _outline(annotation, *size))])
            for annotation in image.annotations
            if not annotation.is_crowd
        ]
        path = labels / PurePosixPath(file_name).with_suffix(".txt")
        path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        count += 1
    return count


def _write_yolo_index(splits: dict[str, CocoDataset], out_dir: Path) -> None:
    """Writes ``data.yaml``, which names the folders and the classes."""
    categories = next(iter(splits.values())).categories
    lines = [f"{name}: images/{name}" for name in splits]
    lines += ["names:", *(f"  {category.index - 1}: {json.dumps(category.name)}" for category in categories)]
    write_text(out_dir / "data.yaml", "".join(f"{line}\n" for line in lines))


def _write_images(
    split: CocoDataset, folder: Path, *, skip_bad: bool, progress: bool
) -> Iterator[tuple[PreparedImage, str]]:
    """Writes images, each under a name of its own, and gives them with their annotations."""
    folder.mkdir(parents=True, exist_ok=True)
    problems, stems = [], set()
    prepared = prepare_images(split, split.images, finish=lambda image: image)
    for found, image in tqdm(prepared, folder.name, len(split.images), unit=" images", disable=not progress):
        problems += found
        if found:
            refuse([*split.problems, *problems], split.totals, skip_bad=skip_bad)
        if image is None:
            continue
        path = PurePosixPath(image.entry.file_name.replace("\\", "/"))
        stem = path.stem if path.stem not in stems else "_".join([*path.parent.parts, path.stem]).strip("._")
        stem = stem if stem not in stems else f"{stem}_{image.entry.id}"
        stems.add(stem)
        file_name = stem + SUFFIXES[image.stored.format]
        (folder / file_name).write_bytes(image.stored.data)
        yield image, file_name
    warn(problems)


def _outline(annotation: Annotation, width: int, height: int) -> list[float]:
    """An object as one polygon in fractions of the image: x1, y1, x2, ...; its parts are joined by lines."""
    polygons = annotation.segmentation
    if not isinstance(polygons, list):
        polygons = _trace(annotation, height, width)
    joined = list(polygons[0])
    for polygon in polygons[1:]:  # there and, as polygons are closed, back along the same line
        joined += [*polygons[0][:2], *polygon, *polygon[:2]]
    scale = (1 / width, 1 / height)
    return [min(max(value * scale[position % 2], 0.0), 1.0) for position, value in enumerate(joined)]


def _trace(annotation: Annotation, height: int, width: int) -> list[list[float]]:
    """The outlines of an RLE's parts, px; pixel i reaches from i to i + 1."""
    mask = np.pad(decode_mask(annotation, height, width), 1)
    lines: Any = contour_generator(z=mask.astype(np.float32)).lines(0.5)
    outlines = [(line[:-1] - 0.5).clip(0) for line in lines if len(line) > MIN_POINTS]
    outlines.sort(key=len, reverse=True)
    return [outline.ravel().tolist() for outline in outlines]
