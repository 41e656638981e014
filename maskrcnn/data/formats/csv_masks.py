"""Masks listed in a CSV file: run lengths as in Kaggle's competitions, or OpenImages' files of single objects.

Kaggle's runs are pairs of a start, from 1, and a length. Most competitions count down columns, some along rows: what
makes connected objects is taken. A column may name the split of each row.
"""

import csv
import functools
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from maskrcnn.data.formats.content import (
    OBJECT,
    Content,
    Size,
    connected_parts,
    encode_ids,
    read_ids,
    read_table,
)
from maskrcnn.data.formats.folders import split_of, walk
from maskrcnn.data.formats.found_dataset import UNSPLIT, FoundDataset, RawSplit, found_dataset
from maskrcnn.data.formats.image_files import ImageFinder
from maskrcnn.input_files import read_bytes, read_head

RUNS = ("EncodedPixels", "annotation", "rle", "rle_mask", "encoded_pixels", "segmentation")
IMAGES = ("ImageId", "image_id", "id", "img", "image", "ImageID", "filename", "file_name")
CLASSES = ("ClassId", "class", "label", "cell_type", "LabelName", "category", "class_name")
JOINED = ("ImageId_ClassId", "Image_Label")  # 0002cc93b.jpg_1, a row for each image and class
SPLITS = ("split", "subset", "set")  # in any letter case
MASK_PATH = "MaskPath"  # OpenImages'
NAMES_FILE = "class-descriptions*.csv"  # OpenImages': /m/01g317,Person
EMPTY = ("", "-1", "nan")  # for an image without objects
WHOLE = "masks of whole images, of which each connected part is read as an object (give each object a row)"
LEFT_OUT = "CSV files left out that list the split of another (join their rows in one file)"
SAMPLES = 20  # masks from which the order of pixels is told
Row = dict[str, str]
Order = Literal["F", "C"]  # down columns, along rows
Decoder = Callable[[str, Size], NDArray[np.bool_] | None]


class Columns(NamedTuple):
    """The columns of a CSV file that matter."""

    image: str
    mask: str
    kind: str | None
    split: str | None

    def split_of(self, row: Row, path: Path) -> str:
        """The split that a row names, else its file."""
        return split_of(row.get(self.split or "", "")) or split_of(path.stem) or UNSPLIT


def find(folder: Path) -> FoundDataset | None:
    """A dataset whose masks a CSV file lists, beside the folder of the images or near it."""
    rows = functools.cache(_rows)
    groups: dict[str, list[tuple[Path, Columns]]] = defaultdict(list)
    for path in walk(folder, {".csv"}):
        columns = _columns(path)
        if columns and "submission" not in path.stem.lower():
            for name in {columns.split_of(row, path) for row in (rows(path) if columns.split else [{}])}:
                groups[name].append((path, columns))
    if not groups:
        return None
    finder = ImageFinder(folder)
    tables = dict.fromkeys(group[0] for group in groups.values())
    names = functools.cache(lambda: _names(folder, [(rows(path), columns) for path, columns in tables]))

    def read(name: str) -> RawSplit:
        (path, columns), *others = groups[name]
        content = _read(finder, path, (rows(path), columns, name), names())
        for other, _ in others:
            content.note(LEFT_OUT, other)
        return content.split()

    is_open_images = any(columns.mask == MASK_PATH for _, columns in tables)
    return found_dataset(
        "OpenImages" if is_open_images else "run lengths in CSV",
        groups,
        read,
        origin=lambda name: groups[name][0][0],
        list_files=lambda name: [groups[name][0][0]],
    )


def _columns(path: Path) -> Columns | None:
    header = next(csv.reader([read_head(path, 4096).decode("utf-8-sig", errors="replace").split("\n")[0]]), [])
    names = [name.strip() for name in header]
    image = next((name for name in IMAGES if name in names), None)
    mask = next((name for name in (MASK_PATH, *RUNS) if name in names), None)
    split = next((name for name in names if name.lower() in SPLITS), None)
    if mask and (joined := next((name for name in JOINED if name in names), None)):
        return Columns(joined.split("_")[0], mask, joined.split("_")[1], split)
    kind = next((name for name in CLASSES if name in names), None)
    return Columns(image, mask, kind, split) if image and mask else None


def _rows(path: Path) -> list[Row]:
    rows = read_table(path)
    for joined in set(JOINED) & set(rows[0] if rows else ()):
        for row in rows:
            row.update(zip(joined.split("_"), row[joined].rpartition("_")[::2], strict=True))
    return rows


def _names(folder: Path, tables: list[tuple[list[Row], Columns]]) -> dict[str, str]:
    """What each class is called: as it is written, but for OpenImages' codes."""
    kinds = {
        row.get(columns.kind or "", "") or OBJECT
        for rows, columns in tables
        for row in rows
        if row.get(columns.mask, "").strip() not in EMPTY
    }
    known: dict[str, str] = {}
    for path in sorted(folder.rglob(NAMES_FILE)):
        lines = csv.reader(read_bytes(path).decode("utf-8-sig", errors="replace").splitlines())
        known |= {line[0]: line[1] for line in lines if len(line) == 2}
    return {kind: known.get(kind, kind) for kind in sorted(kinds)}


def _read(finder: ImageFinder, path: Path, table: tuple[list[Row], Columns, str], names: dict[str, str]) -> Content:
    rows, columns, split = table
    content = Content(finder.folder, list(dict.fromkeys(names.values())))
    by_image: dict[str, list[Row]] = defaultdict(list)
    for row in (row for row in rows if columns.split_of(row, path) == split):
        by_image[row.get(columns.image, "")].append(row)
    found = {name: finder.find(name, path.parent) if name else None for name in by_image}
    images = list(content.readable((image, name) for name, image in found.items() if image))
    for name in (name for name, image in found.items() if image is None):
        content.note("missing images skipped", f"{path}: {name}")
    kinds = [(row.get(columns.image, ""), row.get(columns.kind or "", "")) for row in rows]
    # where no image has two masks of a class, each may have several objects
    whole = columns.mask != MASK_PATH and 1 < len(kinds) == len(set(kinds))
    decode = _decoder(finder.folder, columns, [(row, size) for _, size, name in images for row in by_image[name]])
    for image, size, name in images:
        image_id = content.add_image(image, size)
        for row in by_image[name]:
            text = row.get(columns.mask, "").strip()
            if text in EMPTY:
                continue
            mask, example = decode(text, size), f"{path}: {name}, {text[:30]}"
            if mask is None:
                content.note("masks skipped that cannot be read or do not fit their image", example)
            else:
                kind = names[row.get(columns.kind or "", "") or OBJECT]
                parts = connected_parts(mask) if whole else mask
                if parts.max() > 1:
                    content.note(WHOLE, example)
                for rle in encode_ids(parts.astype(np.int64)).values():
                    content.add_object(image_id, kind, rle, example=example)
    return content


def _decoder(folder: Path, columns: Columns, rows: list[tuple[Row, Size]]) -> Decoder:
    """What makes the mask of a text in the column of masks: a file's pixels or run lengths."""
    if columns.mask == MASK_PATH:
        files = {path.name: path for path in walk(folder, {".png"})}
        return lambda name, size: _read_mask(files.get(name), size)
    samples = [(text, size) for row, size in rows if (text := row.get(columns.mask, "").strip()) not in EMPTY][:SAMPLES]
    parts = {
        order: sum(
            connected_parts(mask).max() for sample in samples if (mask := _decode_runs(*sample, order)) is not None
        )
        for order in ("F", "C")
    }
    order = "F" if parts["F"] <= parts["C"] else "C"
    return lambda text, size: _decode_runs(text, size, order)


def _read_mask(path: Path | None, size: Size) -> NDArray[np.bool_] | None:
    """A mask file's pixels, scaled to the image: OpenImages' are of another size."""
    ids = read_ids(path) if path else None
    if ids is None:
        return None
    scaled = Image.fromarray(ids > 0).resize((size[1], size[0]), Image.Resampling.NEAREST)
    return np.asarray(scaled).astype(bool)


def _decode_runs(text: str, size: Size, order: Order) -> NDArray[np.bool_] | None:
    try:
        runs = np.array(text.split(), np.int64).reshape(-1, 2)
    except (ValueError, OverflowError):
        return None
    starts, ends = runs[:, 0] - 1, runs.sum(axis=1) - 1
    if not len(runs) or starts.min() < 0 or (ends < starts).any() or ends.max() > size[0] * size[1]:
        return None
    edges = np.zeros(size[0] * size[1] + 1, np.int64)
    np.add.at(edges, starts, 1)
    np.add.at(edges, ends, -1)
    return (edges[:-1].cumsum() > 0).reshape(size, order=order)
