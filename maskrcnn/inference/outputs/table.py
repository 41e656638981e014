"""A table of all detections."""

import contextlib
import csv
from collections.abc import Iterator
from pathlib import Path

from maskrcnn.config import Category
from maskrcnn.inference.outputs.conversions import COLUMNS, to_rows
from maskrcnn.inference.outputs.item import Item, Writer
from maskrcnn.runtime.files import replacing

FORMULA = ("=", "+", "-", "@", "\t", "\r")  # how one begins


@contextlib.contextmanager
def writing_csv(out_dir: Path, categories: tuple[Category, ...]) -> Iterator[Writer]:
    """Writes ``detections.csv``, a line each; names that a spreadsheet would compute get an apostrophe."""
    with (
        replacing(out_dir / "detections.csv") as path,
        path.open("w", encoding="utf-8", errors="backslashreplace", newline="") as file,
    ):
        table = csv.DictWriter(file, ["image_id", "file_name", "frame", "time_s", *COLUMNS])
        table.writeheader()

        def add(item: Item) -> None:
            place = {"image_id": item.image_id, "file_name": _inert(item.file), **item.extra}
            table.writerows(
                {**place, **row, "class_name": _inert(row["class_name"])} for row in to_rows(item.detections)
            )

        yield add


def _inert(text: str) -> str:
    return f"'{text}" if text.startswith(FORMULA) else text
