"""Recognizes the format of a dataset from the names in its folder and its first files."""

from collections import Counter
from itertools import islice
from pathlib import Path

from maskrcnn.data.formats import coco, csv_masks, documents, labelme, png_masks, replicator, via, voc, yolo
from maskrcnn.data.formats.folders import IGNORED_FOLDERS
from maskrcnn.data.formats.found_dataset import FoundDataset
from maskrcnn.data.formats.hints import explain
from maskrcnn.errors import UserError

# The first that finds a dataset is taken.
FORMATS = (coco, documents, yolo, labelme, via, voc, replicator, png_masks, csv_masks)
UNDERSTOOD = (
    "COCO JSON with its images (also of Roboflow, CVAT and Label Studio), YOLO segmentation, labelme, VIA, Pascal VOC, "
    "CVAT for images, Supervisely, Datumaro, Label Studio, SA-1B, Cityscapes, Omniverse Replicator, mask files, "
    "run lengths in CSV, TFRecords"
)
MAX_DEPTH = 2  # of files that belong to a dataset, such as annotations/train.json
MAX_FILES = 100_000  # that are counted for the message


def recognize_named(folder: Path, named: dict[str, list[Path]], image_dir: Path | None) -> FoundDataset:
    """The dataset in a folder, with splits by annotation files that were named in place of its own.

    Args:
        folder: of the dataset.
        named: COCO files by split.
        image_dir: where the images of COCO files are; None looks for them in the folder.

    Raises:
        UserError: nothing is named, and nothing in the folder is understood.
    """
    given = coco.named_files(named, folder, image_dir) if named else None
    if given and "train" in named:
        return given
    try:
        found = recognize(folder)
    except UserError:
        if given is None:
            raise
        return given
    if image_dir is not None and found.format.endswith("COCO"):
        found = coco.named_files({split.name: split.list_files() for split in found.splits}, folder, image_dir)
    kept = tuple(split for split in found.splits if split.name not in named)
    return FoundDataset(found.format, kept + (given.splits if given else ()))


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
                return (_table_above(found, place) if module is coco else None) or found
    present = [path for path in islice(folder.rglob("*"), MAX_FILES) if path.is_file() and path.name[0] != "."]
    files = [path for path in present if IGNORED_FOLDERS.isdisjoint(path.relative_to(folder).parts)] or present
    hint = explain(folder, files)
    suffixes = Counter(path.suffix.lower() or "without suffix" for path in files).most_common(6)
    holds = ", ".join(f"{count} {suffix}" for suffix, count in suffixes) or "no files"  # 34 .txt, 12 .jpg
    raise UserError(
        f"{folder}: no dataset recognized; it holds {holds}; {f'{hint}; ' if hint else ''}understood are {UNDERSTOOD}"
    )


def _table_above(found: FoundDataset, folder: Path) -> FoundDataset | None:
    """The dataset of a table of run lengths that lies above COCO's files: these are of another dataset beside it."""
    if all(split.origin.is_relative_to(folder) for split in found.splits):
        depths = [len(split.origin.relative_to(folder).parts) for split in found.splits]
        table = csv_masks.find(folder) if min(depths) > MAX_DEPTH else None
        if table and all(split.origin.parent == folder for split in table.splits):
            return table
    return None


def _only_folder(folder: Path) -> Path | None:
    """The folder that a ZIP file's contents were unpacked to."""
    visible = [path for path in folder.iterdir() if not path.name.startswith((".", "__")) and path.name != "tfrecords"]
    folders = [path for path in visible if path.is_dir()]
    return folders[0] if len(folders) == 1 and len(visible) - 1 <= 2 else None  # a README and a license beside it
