"""Files of VGG Image Annotator, versions 1 and 2: one JSON or CSV for all images, or one in each split's folder.

Images that are listed without regions are images without objects.
"""

import functools
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from maskrcnn.data.coco.segmentation import is_number
from maskrcnn.data.formats.content import OBJECT, Content, Size, clip_points, ellipse_points, read_table
from maskrcnn.data.formats.folders import split_of, split_of_path, walk
from maskrcnn.data.formats.found_dataset import UNSPLIT, FoundDataset, RawSplit, found_dataset
from maskrcnn.data.formats.image_files import ImageFinder
from maskrcnn.errors import UserError
from maskrcnn.input_files import MAX_ANNOTATION_BYTES, parse_json, read_head, read_json

PEEK_BYTES = 1 << 20
MAX_FILES = 10  # in one folder; where there are more, there is one an image, which is not VIA's way
CSV_SHAPE = "region_shape_attributes"  # the column with JSON
Region = dict[str, Any]


@dataclass(frozen=True)
class Entry:
    """An image in a VIA file."""

    source: Path  # the VIA file
    file_name: str
    regions: list[Region]


def find(folder: Path) -> FoundDataset | None:
    """A dataset of VIA, whose JSON may have any name."""
    groups: dict[str, list[Path]] = {}
    files = list(walk(folder, {".json", ".csv"}))
    in_folder = Counter(path.parent for path in files)
    for path in files:
        if in_folder[path.parent] <= MAX_FILES and _is_via(path):
            groups.setdefault(split_of_path(path, folder) or split_of(path.stem) or UNSPLIT, []).append(path)
    if not groups:
        return None
    finder = ImageFinder(folder)
    entries = functools.cache(lambda: {name: _parse(paths) for name, paths in groups.items()})

    return found_dataset("VGG Image Annotator", groups, lambda name: _read(finder, entries(), name))


def _is_via(path: Path) -> bool:
    start = read_head(path, PEEK_BYTES)
    if path.suffix.lower() == ".csv":
        return b"filename" in start[:20] and CSV_SHAPE.encode() in start.split(b"\n")[0]
    return b'"regions"' in start and b'"filename"' in start


def _parse(paths: list[Path]) -> list[Entry]:
    """The images of VIA files, each once: of a project and its export, the one with more regions."""
    entries: dict[str, Entry] = {}
    for path in paths:
        try:
            content = _read_file(path)
        except UserError:
            entries[str(path)] = Entry(path, "", [])
            continue
        content = content.get("_via_img_metadata", content) if isinstance(content, dict) else content
        for image in _dicts(content):
            if isinstance(image.get("filename"), str):
                entry = Entry(path, image["filename"], _dicts(image.get("regions")))
                known = entries.get(entry.file_name)
                if known is None or len(known.regions) < len(entry.regions):
                    entries[entry.file_name] = entry
    return list(entries.values())


def _dicts(values: Any) -> list[dict[str, Any]]:
    """The objects in a list or, as older versions write it, in an object."""
    values = values.values() if isinstance(values, dict) else values if isinstance(values, list) else ()
    return [value for value in values if isinstance(value, dict)]


def _read_file(path: Path) -> Any:
    """What VIA's JSON has, of a JSON or CSV file."""
    if path.suffix.lower() == ".json":
        return read_json(path, "annotations of VIA", MAX_ANNOTATION_BYTES)
    images: dict[str, list[Region]] = {}
    for row in read_table(path):
        regions = images.setdefault(row.get("filename") or row.get("#filename", ""), [])
        shape, attributes = _json(row.get(CSV_SHAPE, "")), _json(row.get("region_attributes", ""))
        if shape != {}:  # which an image without regions has
            regions.append({"shape_attributes": shape, "region_attributes": attributes})
    return [{"filename": name, "regions": regions} for name, regions in images.items()]


def _json(text: str) -> Any:
    try:
        return parse_json(text)
    except ValueError:
        return None


def _read(finder: ImageFinder, entries: dict[str, list[Entry]], split: str) -> RawSplit:
    regions = [region for group in entries.values() for entry in group for region in entry.regions]
    regions = [region for region in regions if _kind(region) in _OUTLINES]
    attribute = _class_attribute(regions)
    names = sorted({_class_name(region, attribute) or OBJECT for region in regions})
    content = Content(finder.folder, names, boxes_only=all(_kind(region) == "rect" for region in regions))
    images: dict[Path, Entry] = {}
    for entry in entries[split]:
        if not entry.file_name:
            content.note("JSON files skipped that cannot be read", entry.source)
        elif image := finder.find(entry.file_name, entry.source.parent):
            images[image] = entry
        else:
            content.note("missing images skipped", entry.file_name)
    for image, size, entry in content.readable(images.items()):
        image_id = content.add_image(image, size)
        for number, region in enumerate(entry.regions, start=1):
            example = f"{entry.file_name}, region {number}"
            try:
                polygon = _outline(region, size)
            except ValueError as error:
                content.note(f"regions skipped: {error}", example)
                continue
            name = _class_name(region, attribute)
            if attribute and not name:
                content.note(f"regions without {attribute!r}, taken for class {OBJECT!r}", example)
            content.add_object(image_id, name or OBJECT, [polygon], example=example)
    return content.split()


def _class_attribute(regions: list[Region]) -> str | None:
    """The attribute that most regions have; of several, the one with the fewest values."""
    values: dict[str, list[str]] = {}
    for region in regions:
        for name in _attributes(region):
            if value := _class_name(region, name):
                values.setdefault(name, []).append(value)
    return max(values, key=lambda name: (len(values[name]), -len(Counter(values[name]))), default=None)


def _class_name(region: Region, attribute: str | None) -> str | None:
    """The attribute's value: text, or the first of the options that is set."""
    value = _attributes(region).get(attribute or "")
    if isinstance(value, dict):
        value = next((option for option, chosen in value.items() if chosen), None)
    return str(value).strip() or None if value is not None else None


def _attributes(region: Region) -> dict[str, Any]:
    attributes = region.get("region_attributes")
    return attributes if isinstance(attributes, dict) else {}


def _kind(region: Region) -> str:
    shape = region.get("shape_attributes")
    return str(shape.get("name")) if isinstance(shape, dict) else "none"


def _outline(region: Region, size: Size) -> list[float]:
    """A region's outline as a polygon; a ValueError says why it has none."""
    kind = _kind(region)
    if kind not in _OUTLINES:
        raise ValueError(f"shape {kind} has no area")
    try:
        polygon = clip_points(_OUTLINES[kind](region["shape_attributes"]), size)
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{kind} without its numbers") from error
    if len(polygon) < 6:
        raise ValueError(f"{kind} of fewer than 3 points")
    return polygon


def _numbers(shape: Region, *names: str) -> list[float]:
    values = [shape[name] for name in names]
    if not all(map(is_number, values)):
        raise ValueError("not numbers")
    return values


def _polygon(shape: Region) -> list[tuple[float, float]]:
    xs, ys = shape["all_points_x"], shape["all_points_y"]
    if not all(map(is_number, (*xs, *ys))):
        raise ValueError("not numbers")
    return list(zip(xs, ys, strict=True))


def _rectangle(shape: Region) -> list[tuple[float, float]]:
    x, y, width, height = _numbers(shape, "x", "y", "width", "height")
    return [(x, y), (x + width, y), (x + width, y + height), (x, y + height)]


def _circle(shape: Region) -> list[tuple[float, float]]:
    x, y, radius = _numbers(shape, "cx", "cy", "r")
    return ellipse_points((x, y), (radius, radius))


def _ellipse(shape: Region) -> list[tuple[float, float]]:
    """An ellipse, in newer files turned by ``theta`` (radians, clockwise on the screen)."""
    x, y, *radii = _numbers(shape, "cx", "cy", "rx", "ry")
    (theta,) = _numbers({"theta": 0, **shape}, "theta")
    return ellipse_points((x, y), radii, theta)


_OUTLINES = {
    "polygon": _polygon,
    "polyline": _polygon,  # most who draw one around an object mean a polygon
    "rect": _rectangle,
    "circle": _circle,
    "ellipse": _ellipse,
}
