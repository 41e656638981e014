"""PNG files: images with their detections drawn on them, crops, and masks."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from maskrcnn.config import Category
from maskrcnn.inference.outputs.conversions import crop, folder_names, save_png, write_masks
from maskrcnn.inference.outputs.item import Item, Writer


@contextlib.contextmanager
def writing_drawings(out_dir: Path, categories: tuple[Category, ...]) -> Iterator[Writer]:
    """Writes ``NAME.png``."""

    def add(item: Item) -> None:
        save_png(item.detections.draw(item.pixels(), 0.0), out_dir / f"{item.name}.png")

    yield add


@contextlib.contextmanager
def writing_crops(out_dir: Path, categories: tuple[Category, ...]) -> Iterator[Writer]:
    """Writes ``crops/CLASS/NAME_I.png``, the part of the image inside each box."""
    folders = folder_names(categories)

    def add(item: Item) -> None:
        crops = crop(item.detections, item.pixels(), 0, masked=False)
        for i, (index, image) in enumerate(zip(item.detections.classes.tolist(), crops, strict=True), start=1):
            name = folders.get(index, f"class {index}")
            save_png(image, out_dir / "crops" / name / f"{item.name}_{i}.png")

    yield add


@contextlib.contextmanager
def writing_masks(out_dir: Path, categories: tuple[Category, ...]) -> Iterator[Writer]:
    """Writes ``masks/CLASS/NAME_object_I.png``, one for each detection, so that overlaps are kept."""

    def add(item: Item) -> None:
        write_masks(item.detections, out_dir / "masks", item.name)

    yield add
