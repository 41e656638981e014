"""Annotation files of other tools, one for all images or one for each; `dialects` knows how each is written."""

import functools
import zlib
from pathlib import Path
from typing import Any, NamedTuple

from maskrcnn.data.coco.problems import EntryError
from maskrcnn.data.coco.segmentation import normalize_segmentation
from maskrcnn.data.formats.content import Content, Size, clip_points, map_in_threads
from maskrcnn.data.formats.dialect import Dialect, Image, Shape
from maskrcnn.data.formats.dialects import dialect_of
from maskrcnn.data.formats.folders import split_of, split_of_path, walk
from maskrcnn.data.formats.found_dataset import UNSPLIT, FoundDataset, RawSplit, found_dataset
from maskrcnn.data.formats.image_files import ImageFinder
from maskrcnn.data.formats.voc_xml import parse_tree
from maskrcnn.errors import UserError, one_line
from maskrcnn.input_files import MAX_ANNOTATION_BYTES, read_head, read_json

PEEK_FILES = 40  # in each folder
# What a dialect raises where a file holds something else.
WRONG = (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, StopIteration, zlib.error)


class Document(NamedTuple):
    """An annotation file, parsed."""

    path: Path
    images: list[Image] | None  # None if it is not written like the others


def find(folder: Path) -> FoundDataset | None:
    """A dataset in the form of one of the tools of `dialects`."""
    dialect, groups = _groups(folder)
    if dialect is None:
        return None
    finder = ImageFinder(folder)

    @functools.cache
    def documents() -> dict[str, list[Document]]:
        return {
            name: map_in_threads(lambda path: _parse(path, dialect), paths, f"reading files of {dialect.format}")
            for name, paths in groups.items()
        }

    def origin(name: str) -> Path:
        return groups[name][0] if len(groups[name]) == 1 else folder

    return found_dataset(dialect.format, groups, lambda name: _read(finder, dialect, documents(), name), origin=origin)


def _groups(folder: Path) -> tuple[Dialect | None, dict[str, list[Path]]]:
    """The dialect of a folder's files, and the files of each split that are in folders where it is found."""
    files: dict[Path, list[Path]] = {}
    for path in walk(folder, {".json", ".xml"}):
        files.setdefault(path.parent, []).append(path)
    chosen: Dialect | None = None
    groups: dict[str, list[Path]] = {}
    for paths in files.values():
        own = next((found for path in paths[:PEEK_FILES] if (found := dialect_of(read_head(path)))), None)
        if own is None or (chosen and own.format != chosen.format):
            continue
        chosen = own
        for path in paths:
            name = split_of_path(path, folder) or (split_of(path.stem) if len(paths) <= PEEK_FILES else None)
            groups.setdefault(name or UNSPLIT, []).append(path)
    return chosen, groups


def _parse(path: Path, dialect: Dialect) -> Document:
    try:
        is_xml = path.suffix.lower() == ".xml"
        content = parse_tree(path) if is_xml else read_json(path, dialect.format, MAX_ANNOTATION_BYTES)
        return Document(path, list(dialect.images(content, path)))
    except (UserError, *WRONG):
        return Document(path, None)


def _read(finder: ImageFinder, dialect: Dialect, documents: dict[str, list[Document]], split: str) -> RawSplit:
    images = (image for group in documents.values() for document in group for image in document.images or ())
    content = Content(finder.folder, sorted({name for image in images for name, _ in image.objects if _is_name(name)}))
    found: list[tuple[Path, tuple[Image, Path]]] = []
    for source, listed in documents[split]:
        if listed is None and source.name != "meta.json":  # Supervisely's list of classes
            content.note("files skipped that are not written like the others", source)
        for image in listed or ():
            name = image.reference if isinstance(image.reference, str) else ""
            if path := finder.find(name, source.parent):
                found.append((path, (image, source)))
            else:
                content.note("missing images skipped", f"{source}: {image.reference}")
    for path, size, (image, source) in content.readable(found):
        if image.size and image.size != size:
            stated = f"{source}: {image.size[1]} x {image.size[0]}, the image is {size[1]} x {size[0]}"
            content.note("images skipped whose annotations state another size", stated)
            continue
        image_id = content.add_image(path, size)
        for number, (name, entry) in enumerate(image.objects, start=1):
            example = f"{source}, {path.name}, object {number}"
            if not _is_name(name):
                content.note("objects skipped that name no class", example)
            elif shape := _shape(content, dialect, (entry, size), example):
                content.add_object(image_id, name, shape.segmentation, box=shape.box, example=example)
    return content.split()


def _is_name(name: Any) -> bool:
    return isinstance(name, str) and bool(name.strip())


def _shape(content: Content, dialect: Dialect, entry: tuple[Any, Size], example: str) -> Shape | None:
    """An object's mask and box within its image; None, and a note, if it cannot be used."""
    size = entry[1]
    try:
        segmentation, box = dialect.shape(*entry)
        if segmentation is None:
            x, y, width, height = map(float, box or [])
            return Shape(None, [x, y, width, height])
        segmentation = normalize_segmentation(segmentation, size, lambda kind, text: None)
        if isinstance(segmentation, list):
            segmentation = [clip_points(zip(part[0::2], part[1::2], strict=True), size) for part in segmentation]
        return Shape(segmentation)
    except EntryError as error:
        content.note(f"objects skipped: {error.kind}", f"{example} {one_line(str(error))}")
    except (UserError, *WRONG):
        content.note("objects skipped whose numbers are missing or wrong", example)
    return None
