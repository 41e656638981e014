"""Recognizes the format of a dataset from the names in its folder and its first files."""

from collections import Counter
from pathlib import Path

from maskrcnn.data.formats import coco, csv_masks, documents, labelme, png_masks, via, voc, yolo
from maskrcnn.data.formats.found import FoundDataset
from maskrcnn.errors import UserError

FORMATS = (coco, documents, yolo, labelme, via, voc, png_masks, csv_masks)  # the first that finds one
    coco,
    documents,
    yolo,
    labelme,
    via,
    voc,
    csv_masks,
    png_masks,
)  # the first that finds a dataset; COCO says most
UNDERSTOOD = (
    "COCO JSON with its images (also of Roboflow, CVAT and Label Studio), YOLO segmentation, labelme, VIA, Pascal VOC, "
    "PNG masks and TFRecords"
)
MAX_FILES = 100_000  # that are counted for the message


def recognize(folder: Path) -> FoundDataset:
    """The dataset in a folder, or in the only folder in it.

    Raises:
        UserError: no format is recognized, or the annotations contradict each other.
    """
    folders = [folder]
    while (inner := _only_folder(folders[-1])) is not None:
        folders.append(inner)
    for module in FORMATS:
        for place in folders:
            if (found := module.find(place)) is not None:
                return found
    raise UserError(f"{folder}: no dataset recognized; it holds {_describe(folder)}; understood are {UNDERSTOOD}")


def _only_folder(folder: Path) -> Path | None:
    """The folder that a ZIP file's contents were unpacked to."""
    visible = [path for path in folder.iterdir() if not path.name.startswith((".", "__")) and path.name != "tfrecords"]
    folders = [path for path in visible if path.is_dir()]
    return folders[0] if len(folders) == 1 and len(visible) - 1 <= 2 else None  # a README and a license beside it


def _describe(folder: Path) -> str:
    """``34 .txt, 12 .jpg``: the most frequent suffixes."""
    suffixes: Counter[str] = Counter()
    for number, path in enumerate(folder.rglob("*")):
        if number >= MAX_FILES:
            break
        if path.is_file() and not path.name.startswith("."):
            suffixes[path.suffix.lower() or "without suffix"] += 1
    return ", ".join(f"{count} {suffix}" for suffix, count in suffixes.most_common(6)) or "no files"
