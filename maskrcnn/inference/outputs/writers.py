"""Writes what ``maskrcnn infer`` finds in the chosen forms, image by image."""

import contextlib
import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from maskrcnn.config import Category
from maskrcnn.errors import UserError, expect
from maskrcnn.inference.outputs import FORMATS
from maskrcnn.inference.outputs.coco import writing_dataset, writing_results
from maskrcnn.inference.outputs.drawn import write_crops, write_drawing, write_item_masks
from maskrcnn.inference.outputs.item import Item, Writer
from maskrcnn.inference.outputs.labelme import write_labelme
from maskrcnn.inference.outputs.table import writing_csv
from maskrcnn.inference.outputs.yolo import writing_yolo
from maskrcnn.runtime.extras import import_extra
from maskrcnn.runtime.files import remove_stale

if TYPE_CHECKING:
    from maskrcnn.inference.detections import Detections

Opener = Callable[[Path, tuple[Category, ...]], contextlib.AbstractContextManager[Writer]]


def _each(write: Callable[[Item, Path, tuple[Category, ...]], None]) -> Opener:
    """The opener of a form that has files of its own for each image."""
    return lambda out_dir, categories: contextlib.nullcontext(lambda item: write(item, out_dir, categories))


OPENERS: dict[str, Opener] = {
    "coco": writing_dataset,
    "masks": _each(write_item_masks),
    "polygons": functools.partial(writing_dataset, polygons=True),
    "labelme": _each(write_labelme),
    "yolo": writing_yolo,
    "csv": writing_csv,
    "crops": _each(write_crops),
    "drawn": _each(write_drawing),
}
OUTLINES = frozenset(("polygons", "labelme", "yolo"))  # made by contourpy


@dataclass(frozen=True)
class Saving:
    """Which detections are written, how and where."""

    out_dir: Path
    formats: tuple[str, ...] = ("drawn",)  # beside predictions.json
    score_threshold: float = 0.5  # lowest score in all files but predictions.json
    classes: tuple[str, ...] = ()  # names of the only categories that are written; none are all

    def check(self, categories: tuple[Category, ...]) -> None:
        """Makes sure that formats and classes exist.

        Raises:
            UserError: one does not, or the package that a format needs is not installed.
        """
        names = [category.name for category in categories]
        for kind, given, known in (("--save", self.formats, FORMATS), ("--classes", self.classes, names)):
            for name in expect(given, list | tuple, kind):
                if name not in known:
                    raise UserError(f"{kind} {name}: expected some of {', '.join(known)}")
        if not OUTLINES.isdisjoint(self.formats):
            import_extra("contourpy")

    def selected(self, detections: "Detections") -> "Detections":
        """The detections of the classes."""
        return detections.of_classes(self.classes) if self.classes else detections


@contextlib.contextmanager
def writing_outputs(saving: Saving, categories: tuple[Category, ...]) -> Iterator[Writer]:
    """Gives a function that writes an image's detections in all forms; the files are complete at the end.

    What a killed run left in the folder is removed.

    Raises:
        UserError: an unknown format or class, or a file that cannot be written.
    """
    saving.check(categories)
    out_dir = saving.out_dir
    remove_stale(out_dir)
    with contextlib.ExitStack() as stack:
        add_result = stack.enter_context(writing_results(out_dir))
        writers = [stack.enter_context(OPENERS[name](out_dir, categories)) for name in dict.fromkeys(saving.formats)]

        def add(item: Item) -> None:
            found = replace(item, detections=saving.selected(item.detections))
            add_result(found)
            shown = found.above(saving.score_threshold)
            for write in writers:
                write(shown)

        yield add
