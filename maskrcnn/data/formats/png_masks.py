"""Masks as PNG files: one an object, or one an image whose values are the ids of its objects.

A binary mask of a whole image is read as its connected parts, which is noted: where objects touch, only numbers tell
them apart. Maps whose values look like classes are refused.
"""

from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from maskrcnn.data.formats.content import (
    COLOR,
    Content,
    Size,
    connected_parts,
    encode_ids,
    encode_mask,
    map_in_threads,
    read_ids,
    read_size,
)
from maskrcnn.data.formats.encoded_ids import Encoding, encoding_of
from maskrcnn.data.formats.found_dataset import FoundDataset, FoundSplit, RawSplit
from maskrcnn.data.formats.mask_pairs import OBJECT, Job, MaskFile, Pairs, find_pairs
from maskrcnn.errors import UserError

PEEK = 8
FEW_IDS = 50  # numbers left out below it are those of classes that an image lacks
MOST_PARTS = 2  # of a value, on average, where it is an object, maybe behind another
SPECK = 0.05  # of the area of a value
PEEK_SIDE = 512  # px
FEW_SHADES = 8  # of gray; more of them between black and a prevailing white come from smoothing or scaling
MASKLESS = "images left out that have no mask"
BINARY = "binary masks of whole images, of which each connected part is read as an object (number objects that touch)"
Skipped = tuple[str, Path]  # what is noted, and the file


class Found(NamedTuple):
    """An object in a mask file."""

    name: str  # of the class
    is_crowd: bool
    rle: dict[str, Any]
    example: str  # the file that messages name


def find(folder: Path) -> FoundDataset | None:
    """A dataset of mask files, in a folder an image, in folders of images and of masks, or side by side; split or not.

    Raises:
        UserError: there are several sorts of masks.
    """
    sorts = {sort: groups for sort, groups in find_pairs(folder).items() if _hold_objects(groups)}
    known = [sort for sort, groups in sorts.items() if _encoding(_masks(groups))]
    sorts = {known[0]: sorts[known[0]]} if len(known) == 1 else sorts
    if len(sorts) > 1:
        raise UserError(
            f"{folder}: several sorts of masks ({', '.join(sorts)}); keep the one that shows your objects and move the "
            "others out of the folder"
        )
    if not sorts:
        return None
    groups = next(iter(sorts.values()))
    masks = _masks(groups)
    encoding = _encoding(masks)
    names = sorted(set(encoding.names.values())) if encoding else sorted({mask.name for mask in masks})

    def found(name: str) -> FoundSplit:
        pairs = groups[name]
        files = [mask.path for job in pairs.jobs for mask in job.masks]
        return FoundSplit(name, pairs.origin, lambda: _read(folder, pairs, names, encoding), lambda: files)

    kind = "image" if 2 * sum(mask.is_map for mask in masks) > len(masks) else "object"
    return FoundDataset(encoding.format if encoding else f"PNG masks, one for each {kind}", tuple(map(found, groups)))


def _encoding(masks: list[MaskFile]) -> Encoding | None:
    maps = [mask.path for mask in masks if mask.is_map]
    return encoding_of(maps, [ids for path in maps[:PEEK] if (ids := read_ids(path)) is not None])


def _masks(groups: dict[str, Pairs]) -> list[MaskFile]:
    return [mask for pairs in groups.values() for job in pairs.jobs for mask in job.masks]


def _hold_objects(groups: dict[str, Pairs]) -> bool:
    masks = _masks(groups)
    maps, parts = ([mask.path for mask in masks if mask.is_map is kind] for kind in (True, False))
    return _encoding(masks) is not None or (_are_binary(parts) and _hold_object_ids(maps))


def _are_binary(paths: list[Path]) -> bool:
    """Whether the first of the masks of single objects have one value beside 0, but for smoothed borders."""
    peeked = [ids for path in islice(paths, PEEK) if (ids := read_ids(path)) is not None]
    return bool(peeked or not paths) and all(len(np.unique(ids[ids != 0])) <= 1 or _is_smoothed(ids) for ids in peeked)


def _hold_object_ids(paths: list[Path]) -> bool:
    """Whether the values of the first maps can be ids of objects.

    Those of classes have gaps, are all alike, or are each in many places.
    """
    peeked = [ids for path in islice(paths, PEEK) if (ids := read_ids(path)) is not None]
    maps = [np.unique(ids).tolist() for ids in peeked if not _is_smoothed(ids)]
    maps = [values for values in maps if len(values) > 1]
    for values in maps:
        gaps = len(values) > 2 and values[-1] > len(values) - 1
        if 0 not in values or (gaps and values[-1] <= FEW_IDS):
            return False
    if sum(map(_parts_of_values, peeked)) > MOST_PARTS * len(peeked):
        return False
    alike = len(maps) == PEEK and all(values == maps[0] for values in maps) and len(maps[0]) > 2
    return bool(peeked or not paths) and not alike


def _parts_of_values(ids: NDArray[np.int64]) -> float:
    """How many connected parts the values of a map have on average, specks not counted; 1 if there are one or many."""
    stride = max(1, max(ids.shape) // PEEK_SIDE)
    small = ids[::stride, ::stride]
    values, areas = np.unique(small[small > 0], return_counts=True)
    if not 1 < len(values) <= FEW_IDS:
        return 1.0
    counts = 0
    for value, area in zip(values, areas, strict=True):
        sizes = np.unique(connected_parts(small == value), return_counts=True)[1][1:]
        counts += max(1, int((sizes > SPECK * area).sum()))
    return counts / len(values)


def _is_smoothed(ids: NDArray[np.int64]) -> bool:
    """Whether a map is a binary mask with shades of gray at its borders."""
    values, counts = np.unique(ids[ids > 0], return_counts=True)
    if len(values) <= FEW_SHADES or values[-1] >= COLOR or values[-1] == len(values):
        return False
    return bool(counts[-1] > 0.5 * counts.sum())


def _read(folder: Path, pairs: Pairs, names: list[str], encoding: Encoding | None) -> RawSplit:
    content = Content(folder, names)
    for path in pairs.unmatched:
        content.notes.add("masks skipped that belong to no image", path)
    for path in pairs.unlisted:
        content.notes.add("images left out that belong to no split", path)
    for path in pairs.maskless:
        content.notes.add(MASKLESS, path)
    has_maps = any(mask.is_map for job in pairs.jobs for mask in job.masks)
    jobs = []
    for job in pairs.jobs:
        if job.masks or not has_maps:
            jobs.append(job)
        else:
            content.notes.add(MASKLESS, job.image)
    results = map_in_threads(lambda job: _read_job(job, encoding), jobs, "reading masks")
    for job, (size, objects, skipped) in zip(jobs, results, strict=True):
        for note, path in skipped:
            content.notes.add(note, path)
        if size is not None:
            image_id = content.add_image(job.image, size)
            for found in objects:
                content.add_object(image_id, found.name, found.rle, is_crowd=found.is_crowd, example=found.example)
    return _mark_folders(content.split(), encoding)


def _mark_folders(split: RawSplit, encoding: Encoding | None) -> RawSplit:
    """The split with those classes marked that are named after a folder, which may have empty masks only."""
    for category in split.content["categories"]:
        category["is_folder"] = encoding is None and category["name"] != OBJECT
    return split


def _read_job(job: Job, encoding: Encoding | None) -> tuple[Size | None, list[Found], list[Skipped]]:
    """The size of an image (None if it is skipped), its objects, and what is noted."""
    size = read_size(job.image)
    if size is None:
        return None, [], [("unreadable images skipped", job.image)]
    objects: list[Found] = []
    skipped: list[Skipped] = []
    for mask in job.masks:
        ids = read_ids(mask.path)
        if ids is None:
            skipped.append(("masks skipped that cannot be read", mask.path))
        elif ids.shape != size:
            skipped.append(("masks skipped whose size is not their image's", mask.path))
        elif encoding:
            rles = encode_ids(encoding.number(ids))
            kinds = ((encoding.decode(value), rle) for value, rle in rles.items())
            objects.extend(Found(*kind, rle, str(mask.path)) for kind, rle in kinds if kind)
            skipped += [
                ("objects skipped whose class has no name", mask.path) for value in rles if encoding.is_unknown(value)
            ]
            skipped += [(encoding.note, mask.path)] if encoding.note and rles else []
        else:
            rles, note = _objects(ids, mask)
            objects.extend(Found(mask.name, False, rle, str(mask.path)) for rle in rles)
            skipped.extend([(note, mask.path)] if note else [])
    return size, objects, skipped


def _objects(ids: NDArray[np.int64], mask: MaskFile) -> tuple[list[dict[str, Any]], str | None]:
    """The RLEs of a file's objects, and what is noted."""
    if not ids.any():
        return [], None if mask.is_map else "empty masks skipped"
    smoothed = _is_smoothed(ids)
    if not mask.is_map or smoothed or len(np.unique(ids[ids != 0])) == 1:
        pixels = ids > ids.max() / 2 if smoothed else ids != 0
        return (
            (list(encode_ids(connected_parts(pixels)).values()), BINARY)
            if mask.is_map
            else ([encode_mask(pixels)], None)
        )
    return list(encode_ids(ids).values()), None
