"""Masks as PNG files: one an object, or one an image whose values are the ids of its objects.

A binary mask of a whole image is read as its connected parts, which is noted: where objects touch, only numbers tell
them apart. Maps whose values look like classes are refused.
"""

from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from maskrcnn.data.coco.segmentation import encode_mask
from maskrcnn.data.formats.content import (
    COLOR,
    OBJECT,
    Content,
    MaskedImage,
    connected_parts,
    encode_ids,
    map_in_threads,
    read_ids,
    read_size,
)
from maskrcnn.data.formats.encoded_ids import Encoding, encoding_of
from maskrcnn.data.formats.found_dataset import FoundDataset, RawSplit, found_dataset
from maskrcnn.data.formats.mask_pairs import MASKLESS, Job, MaskFile, Pairs, find_pairs
from maskrcnn.errors import UserError

PEEK = 8
FEW_IDS = 50  # numbers left out below it are those of classes that an image lacks
MOST_PARTS = 2  # of a value, on average, where it is an object, maybe behind another
SPECK = 0.05  # of the area of a value
PEEK_SIDE = 512  # px
FEW_SHADES = 8  # of gray; more of them between black and a prevailing white come from smoothing or scaling
BINARY = "binary masks of whole images, of which each connected part is read as an object (number objects that touch)"


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

    def read(name: str) -> RawSplit:
        return _read(Content(folder, names), groups[name], encoding)

    def list_files(name: str) -> list[Path]:
        return [mask.path for job in groups[name].jobs for mask in job.masks]

    kind = "image" if 2 * sum(mask.is_map for mask in masks) > len(masks) else "object"
    format = encoding.format if encoding else f"PNG masks, one for each {kind}"
    return found_dataset(format, groups, read, origin=lambda name: folder, list_files=list_files)


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


def _read(content: Content, pairs: Pairs, encoding: Encoding | None) -> RawSplit:
    for note, path in pairs.notes:
        content.note(note, path)
    has_maps = any(mask.is_map for job in pairs.jobs for mask in job.masks)
    jobs = [job for job in pairs.jobs if job.masks or not has_maps]
    for job in pairs.jobs if has_maps else ():
        if not job.masks:
            content.note(MASKLESS, job.image)
    for masked in map_in_threads(lambda job: _read_job(job, encoding), jobs, "reading masks"):
        content.add_masked(masked)
    split = content.split()
    for category in split.content["categories"]:  # named after a folder, which may have empty masks only
        category["is_folder"] = encoding is None and category["name"] != OBJECT
    return split


def _read_job(job: Job, encoding: Encoding | None) -> MaskedImage:
    size = read_size(job.image)
    if size is None:
        return MaskedImage(job.image, None, [], [("unreadable images skipped", job.image)])
    found = MaskedImage(job.image, size, [], [])
    for mask in job.masks:
        ids = read_ids(mask.path)
        if ids is None:
            notes = ["masks skipped that cannot be read"]
        elif ids.shape != size:
            notes = ["masks skipped whose size is not their image's"]
        elif encoding:
            rles = encode_ids(encoding.number(ids))
            kinds = ((encoding.decode(value), rle) for value, rle in rles.items())
            found.objects.extend((kind[0], rle, kind[1]) for kind, rle in kinds if kind)
            notes = ["objects skipped whose class has no name" for value in rles if encoding.is_unknown(value)]
            notes += [encoding.note] if encoding.note and rles else []
        else:
            rles, note = _objects(ids, mask)
            found.objects.extend((mask.name, rle, False) for rle in rles)
            notes = [note] if note else []
        found.notes.extend((note, mask.path) for note in notes)
    return found


def _objects(ids: NDArray[np.int64], mask: MaskFile) -> tuple[list[dict[str, Any]], str | None]:
    """The RLEs of a file's objects, and what is noted."""
    if not ids.any():
        return [], None if mask.is_map else "empty masks skipped"
    smoothed = _is_smoothed(ids)
    if mask.is_map and not smoothed and len(np.unique(ids[ids != 0])) > 1:
        return list(encode_ids(ids).values()), None
    pixels = ids > ids.max() / 2 if smoothed else ids != 0
    return (
        (list(encode_ids(connected_parts(pixels)).values()), BINARY) if mask.is_map else ([encode_mask(pixels)], None)
    )
