"""COCO content built image by image, with the counts of what was skipped."""

import contextlib
import csv
import io
import math
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as pycocotools_mask
from tqdm import tqdm

from maskrcnn.data.coco.segmentation import Segmentation, Size, bounding_box, json_rle
from maskrcnn.data.formats.found_dataset import RawSplit
from maskrcnn.errors import UserError
from maskrcnn.imaging import read
from maskrcnn.input_files import MAX_ANNOTATION_BYTES, open_regular, read_bytes

mask_utils: Any = pycocotools_mask  # its annotations do not cover what it takes

PROGRESS_DELAY_S = 2
ELLIPSE_POINTS = 72  # its polygon has 99.9 % of the ellipse's area

COLOR, ALPHA = 1 << 24, 1 << 25
OBJECT = "object"  # the class of objects that name none

Item = TypeVar("Item")
Result = TypeVar("Result")


class MaskedImage(NamedTuple):
    """An image whose objects are read from mask files."""

    image: Path
    size: Size | None  # None: it is left out
    objects: list[tuple[str, dict[str, Any], bool]]  # the name of the class, an RLE, and whether it is a crowd
    notes: list[tuple[str, Path]]  # what is skipped, and the file


class Content:
    """The three lists of COCO JSON, filled image by image, and counts of what was skipped or repaired.

    Args:
        folder: that file names are relative to.
        names: of the categories, whose ids count from 1 in this order.
        boxes_only: whether masks are drawn as rectangles, so that boxes are all that is known.
    """

    def __init__(self, folder: Path, names: Sequence[str], *, boxes_only: bool = False) -> None:
        self.folder, self.boxes_only = folder, boxes_only
        self._category_ids = {name: id for id, name in enumerate(names, start=1)}
        self._images: list[dict[str, Any]] = []
        self._annotations: list[dict[str, Any]] = []
        self._notes: dict[str, tuple[int, str]] = {}  # by kind, how many there are and the first example

    def note(self, kind: str, example: object) -> None:
        """Counts one more of a kind of what was skipped or repaired."""
        count, first = self._notes.get(kind, (0, str(example)))
        self._notes[kind] = count + 1, first

    def readable(self, found: Iterable[tuple[Path, Item]]) -> Iterator[tuple[Path, Size, Item]]:
        """The images whose size can be read, each with its size and what comes with it; the others are noted."""
        pairs = list(found)
        sizes = map_in_threads(read_size, [path for path, _ in pairs], "reading image sizes")
        for (path, item), size in zip(pairs, sizes, strict=True):
            if size is None:
                self.note("unreadable images skipped", path)
            else:
                yield path, size, item

    def add_image(self, path: Path, size: Size) -> int:
        """Adds an image and returns its id."""
        name = Path(os.path.relpath(path, self.folder)).as_posix()
        self._images.append({"id": len(self._images) + 1, "file_name": name, "height": size[0], "width": size[1]})
        return len(self._images)

    def add_object(
        self,
        image_id: int,
        name: str,
        segmentation: Segmentation | None,
        *,
        box: Sequence[float] | None = None,
        is_crowd: bool = False,
        example: object = "",
    ) -> None:
        """Adds an object with its mask or, without one, its ``xywh`` box; what has no area is skipped and noted."""
        if segmentation is not None and self.boxes_only:
            segmentation, box = None, bounding_box(segmentation)
        if isinstance(segmentation, list):
            polygons = [polygon for polygon in segmentation if _has_area(polygon)]
            segmentation = polygons or None
            if not polygons and box is None:
                box = (0.0, 0.0, 0.0, 0.0)
        bbox = list(box) if box is not None else bounding_box(segmentation or [])
        if bbox[2] <= 0 or bbox[3] <= 0:
            self.note("objects without an area skipped", example)
            return
        entry = {
            "id": len(self._annotations) + 1,
            "image_id": image_id,
            "category_id": self._category_ids[name],
            "bbox": bbox,
            "iscrowd": int(is_crowd),
        }
        self._annotations.append(entry if segmentation is None else {**entry, "segmentation": segmentation})

    def add_masked(self, masked: MaskedImage) -> None:
        """Adds an image, if it can be used, with its objects and notes."""
        for kind, example in masked.notes:
            self.note(kind, example)
        if masked.size is not None:
            image_id = self.add_image(masked.image, masked.size)
            for name, rle, is_crowd in masked.objects:
                self.add_object(image_id, name, rle, is_crowd=is_crowd)

    def split(self) -> RawSplit:
        """The content so far."""
        categories = [{"id": id, "name": name} for name, id in self._category_ids.items()]
        content = {"images": self._images, "annotations": self._annotations, "categories": categories}
        notes = [f"{kind}: {count} (first: {first})" for kind, (count, first) in self._notes.items()]
        return RawSplit(content, self.folder, notes)


def _has_area(polygon: list[float]) -> bool:
    xs, ys = polygon[0::2], polygon[1::2]
    return len(xs) >= 3 and max(xs) > min(xs) and max(ys) > min(ys)


def read_table(path: Path) -> list[dict[str, str]]:
    """The rows of a CSV file by the names of its columns; what a row lacks is empty.

    Raises:
        UserError: it cannot be read, or is no table.
    """
    text = read_bytes(path, MAX_ANNOTATION_BYTES).decode("utf-8-sig", errors="replace")
    csv.field_size_limit(1 << 26)
    try:
        rows = list(csv.DictReader(io.StringIO(text)))
    except csv.Error as error:
        raise UserError(f"{path}: not a table ({error}); expected CSV") from error
    return [{str(key).strip(): value or "" for key, value in row.items() if key is not None} for row in rows]


def map_in_threads(function: Callable[[Item], Result], items: Sequence[Item], description: str) -> list[Result]:
    """The function's results in order; a progress bar appears after two seconds."""
    with ThreadPoolExecutor() as pool:
        results = pool.map(function, items)
        bar = tqdm(results, description, len(items), delay=PROGRESS_DELAY_S, leave=False, disable=None)
        return list(bar)


def read_size(path: Path) -> Size | None:
    """Height and width of the upright image; None for a file that is not a readable image."""
    with contextlib.suppress(UserError):
        return read.read_size(path)
    return None


def pack_color(red: Any, green: Any, blue: Any) -> Any:
    """One number for a color, above all gray levels; 0 for black."""
    packed = red << 16 | green << 8 | blue
    return packed + (packed > 0) * COLOR


def read_ids(path: Path) -> NDArray[np.int64] | None:
    """A mask file's values, [H, W]: gray levels, palette indices, integers of NumPy or `pack_color`s.

    Of a JPEG file, whose values are not exact, the two that black and white were; None if it cannot be read.
    """
    if path.suffix.lower() == ".npy":
        return _read_array(path)
    with contextlib.suppress(UserError), read.open_image(path) as image:
        if image.format == "JPEG":
            return _black_and_white(np.asarray(image.convert("L")))
        if image.mode in ("RGB", "RGBA"):
            values = np.asarray(image).astype(np.int64)
            packed = pack_color(values[..., 0], values[..., 1], values[..., 2])
            alpha = values[..., 3] if image.mode == "RGBA" else np.array(255)
            numbers = alpha * ALPHA * (alpha.max() < 255)  # an alpha that is never full is part of a number: BDD100K
            return np.where(alpha > 0, packed + numbers, 0)
        if image.mode == "LA":
            return np.asarray(image)[..., 0].astype(np.int64)
        if image.mode in ("1", "L", "P") or image.mode.startswith("I"):
            return np.asarray(image).astype(np.int64)
    return None


def _black_and_white(gray: NDArray[np.uint8]) -> NDArray[np.int64] | None:
    """The two values, 0 and 255, of pixels that were black and white before they were compressed; None if not."""
    black, between = gray.max() < 16, np.mean((gray >= 64) & (gray < 192))
    return (gray >= 128) * np.int64(255) if black or (gray.max() >= 192 and between < 0.05) else None


def _read_array(path: Path) -> NDArray[np.int64] | None:
    """The integers [H, W] in a file of NumPy; None for anything else."""
    with contextlib.suppress(UserError, ValueError, OSError), np.errstate(invalid="ignore"):
        open_regular(path).close()
        values = np.load(path, mmap_mode="r", allow_pickle=False)
        integers = values.astype(np.int64) if values.ndim == 2 and values.dtype.kind in "biuf" else None
        return integers if integers is not None and (integers == values).all() else None
    return None


def clip_points(points: Iterable[Sequence[float]], size: Size) -> list[float]:
    """Points (x, y) as a flat list inside the image, px; a repetition of the first point at the end is dropped."""
    array = np.asarray(list(points), np.float64).reshape(-1, 2)
    if len(array) > 1 and (array[0] == array[-1]).all():
        array = array[:-1]
    return np.clip(array, 0, (size[1], size[0])).round(3).ravel().tolist()


def clip_box(left: float, top: float, right: float, bottom: float, size: Size) -> list[float]:
    """A box of these sides as ``xywh`` inside the image, px."""
    height, width = size
    left, right = (min(max(x, 0.0), float(width)) for x in (left, right))
    top, bottom = (min(max(y, 0.0), float(height)) for y in (top, bottom))
    return [left, top, right - left, bottom - top]


def ellipse_points(center: Sequence[float], radii: Sequence[float], theta: float = 0.0) -> list[tuple[float, float]]:
    """A polygon for an ellipse; ``theta`` is the angle of its first axis, in radians clockwise (y points down)."""
    cos, sin = math.cos(theta), math.sin(theta)
    points = []
    for step in range(ELLIPSE_POINTS):
        angle = 2 * math.pi * step / ELLIPSE_POINTS
        x, y = radii[0] * math.cos(angle), radii[1] * math.sin(angle)
        points.append((center[0] + x * cos - y * sin, center[1] + x * sin + y * cos))
    return points


def connected_parts(mask: NDArray[np.bool_]) -> NDArray[np.int64]:
    """A map of ids [H, W] that numbers the parts of a mask; pixels that touch at a corner are connected."""
    stride = mask.shape[1] + 1  # a column of background keeps rows apart
    edges = np.diff(np.pad(np.pad(mask, ((0, 0), (0, 1))).ravel().astype(np.int8), 1))
    starts, ends = np.flatnonzero(edges == 1), np.flatnonzero(edges == -1)  # of the runs in rows
    first = np.searchsorted(ends, starts + stride - 1, "right")  # of the runs below that touch a run
    counts = np.maximum(np.searchsorted(starts, ends + stride + 1, "left") - first, 0)
    upper = np.repeat(np.arange(len(starts)), counts)
    lower = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts) + np.repeat(first, counts)
    roots = np.arange(len(starts))
    while (roots[upper] != roots[lower]).any():
        pairs = np.sort(np.stack([roots[upper], roots[lower]]), axis=0)
        np.minimum.at(roots, pairs[1], pairs[0])
        while (roots != roots[roots]).any():
            roots = roots[roots]
    flat = np.zeros(mask.shape[0] * stride + 1, np.int64)
    ids = np.unique(roots, return_inverse=True)[1] + 1
    flat[starts] += ids
    flat[ends] -= ids
    return flat[:-1].cumsum().reshape(mask.shape[0], stride)[:, :-1]


def place_mask(part: NDArray[np.bool_], left: int, top: int, size: Size) -> NDArray[np.bool_]:
    """The mask [H, W] of a whole image of which ``part`` is what begins at (left, top), px; what is outside is cut."""
    whole = np.zeros(size, bool)
    rows, columns = (
        slice(max(start, 0), max(start + length, 0)) for start, length in ((top, part.shape[0]), (left, part.shape[1]))
    )
    inside = whole[rows, columns]
    inside[...] = part[max(-top, 0) :, max(-left, 0) :][: inside.shape[0], : inside.shape[1]]
    return whole


def encode_ids(ids: NDArray[np.int64]) -> dict[int, dict[str, Any]]:
    """A compressed RLE for each value but 0 of a map of object ids [H, W], from one pass over its runs."""
    flat = ids.ravel(order="F")
    starts = np.flatnonzero(np.r_[True, flat[1:] != flat[:-1]])
    ends, values = np.r_[starts[1:], flat.size], flat[starts]
    order = np.argsort(values, kind="stable")
    unique, first = np.unique(values[order], return_index=True)
    rles = {}
    for value, runs in zip(unique.tolist(), np.split(order, first[1:]), strict=True):
        if value == 0:
            continue
        edges = np.stack([starts[runs], ends[runs]], 1).ravel()  # where the object begins and ends, in turn
        counts = np.diff(edges, prepend=0, append=[] if edges[-1] == flat.size else flat.size).tolist()
        rles[value] = json_rle(mask_utils.frPyObjects({"size": list(ids.shape), "counts": counts}, *ids.shape))
    return rles
