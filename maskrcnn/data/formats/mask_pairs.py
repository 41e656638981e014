"""Images and their mask files, matched by names of folders and files.

Whether a file is an image or a mask is told by the nearest folder that says so (``images``, ``PedMasks``,
``plant_instances``), else by the end of its own name (``plant1_rgb``, ``plant1_label``). Masks of one sort, such as
those in ``leaf_instances``, make one set: a dataset may come with several.
"""

import contextlib
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from maskrcnn.data.formats.content import OBJECT
from maskrcnn.data.formats.folders import SPLIT_WORDS, split_of, split_of_path, walk
from maskrcnn.data.formats.found_dataset import SPLIT_NAMES, UNSPLIT
from maskrcnn.errors import UserError
from maskrcnn.imaging.read import SUFFIXES
from maskrcnn.input_files import read_lines

EXACT = (".png", ".tif", ".tiff", ".bmp", ".gif", ".npy")  # suffixes of masks without loss
LOSSY, ARRAY = (".jpg", ".jpeg"), ".npy"
IMAGE = r"(?:images?|imgs?|im|jpegimages|pngimages|inputs?|rgb|raw|frames?)"
MASK = (
    r"(?:[a-z]*masks?|labels?|inst|instances?|objects?|obj|gt|seg|segmentations?|groundtruth|truth|ground-truth|"
    r"annotations?|ids|cp|instanceids|gtfine|gtcoarse)"
)
OTHER = (
    r"(?:semantics?|colou?rs?|binary|visibility|fg|centers?|void|edges?|boundar(?:y|ies)|depth|trimaps?|class(?:es)?|"
    r"panoptic|overlays?|distances?|weighted)"
)
WORD = re.compile("[A-Z]+(?![a-z])|[A-Z]?[a-z]+")
NO_INSTANCES = re.compile("(?:labelids|trainids)$")  # Cityscapes' maps of classes
MAP_NAME = re.compile(rf"(.+?)(?:[_\-. ]{MASK})+", re.IGNORECASE)  # cat7_mask
PART_BESIDE = re.compile(rf"(.+?)(?:[_\-. ]{MASK})+[_\-. ]?\d+", re.IGNORECASE)  # cat7_mask_1
PART_NAME = re.compile(rf"(.+?)(?:[_\-. ]{MASK})*[_\-. ]?\d+", re.IGNORECASE)  # cat7_1, cat7_mask_1, cat7_mask1
LONE_MASK = re.compile(rf"{MASK}([_\-. ]?\d+)?", re.IGNORECASE)  # mask, mask_1, of the only image in its folder
NUMBER_NAME = re.compile(rf"(?:(?:{IMAGE}|{MASK})[_\-. ]?)*(\d+)", re.IGNORECASE)  # mask_07, of img_07
CELL_NAME = re.compile(r"man_seg(\d+)")  # of the Cell Tracking Challenge: 01_GT/SEG/man_seg000.tif for 01/t000.tif
IMAGE_NAME = re.compile(rf"(.+?)(?:[_\-. ](?:{IMAGE}|leftimg8bit))+", re.IGNORECASE)
OTHER_NAME = re.compile(rf".+?[_\-. ]{OTHER}", re.IGNORECASE)
MASKLESS = "images left out that have no mask"
MATCHED = 0.8  # the fraction of mask files that must belong to an image; else they are something else


Notes = list[tuple[str, Path]]


class MaskFile(NamedTuple):
    """A mask file of an image."""

    path: Path
    name: str  # of the class
    is_map: bool  # the only one of its class for the image, so that its values may tell objects apart


class Job(NamedTuple):
    """An image and its mask files."""

    image: Path
    masks: list[MaskFile]


class Pairs(NamedTuple):
    """The images of a split with their masks."""

    jobs: list[Job]
    notes: Notes  # what is left out, and the file


@dataclass(frozen=True)
class _File:
    path: Path
    folders: tuple[str, ...]  # from the dataset's on
    place: int  # which of them says that it is an image or a mask; -1: the file's name

    @property
    def parent(self) -> tuple[str, ...]:
        """The folders above the one that says what it is; those of the file where its name does."""
        return self.folders[: self.place] if self.place >= 0 else self.folders


@lru_cache(maxsize=4096)
def _split(folders: tuple[str, ...]) -> str | None:
    """The first split that a folder tells."""
    return next((split for part in folders if (split := split_of(part))), None)


@lru_cache(maxsize=4096)
def _tokens(folders: tuple[str, ...]) -> frozenset[str]:
    """What the folders' names say but for image and mask."""
    words = (word for part in folders for word in re.split(r"[_\-. ]", part.lower()))
    return frozenset(word for word in words if word and not re.fullmatch(f"{MASK}|{IMAGE}", word))


def find_pairs(folder: Path) -> dict[str, dict[str, Pairs]]:
    """The pairs of each split, for each sort of masks; nothing where folders or names do not match."""
    images: list[_File] = []
    sorts: dict[str, list[_File]] = defaultdict(list)
    paths = list(walk(folder, {*SUFFIXES, ARRAY}))
    stems = {(path.parent, path.stem) for path in paths}
    others = Counter(path.parent for path in paths if not LONE_MASK.fullmatch(path.stem))
    for path in paths:
        folders = path.relative_to(folder).parts[:-1]
        kinds = [kind_of(part) for part in folders]
        place = next((place for place in range(len(kinds) - 1, -1, -1) if kinds[place]), -1)
        kind = kinds[place] if place >= 0 else _kind_of_file(path, stems, is_lone=others[path.parent] == 1)
        suffix, file = path.suffix.lower(), _File(path, folders, place)
        if kind == "mask" and suffix in (*EXACT, *LOSSY) and not NO_INSTANCES.search(path.stem.lower()):
            if place < 0 or not OTHER_NAME.fullmatch(path.stem):
                sorts[_sort(folders[place]) if place >= 0 else "files"].append(file)
        elif kind in (None, "image") and suffix != ARRAY:
            images.append(file)
    if not sorts and (masks := _twins(images)):
        sorts["files"], images = masks, [image for image in images if image not in set(masks)]
    found: dict[str, dict[str, Pairs]] = {}
    for sort, masks in sorts.items():
        exact = [mask for mask in masks if mask.path.suffix.lower() in EXACT] or masks
        for name, version in _versions(sort, exact, images).items():
            if pairs := _match(folder, images, version):
                found[name] = pairs
    return found


def _twins(images: list[_File]) -> list[_File]:
    """Masks beside images of the same name with another suffix, as x.png is for x.jpg; none unless all have one."""
    groups: dict[tuple[Path, str], list[_File]] = defaultdict(list)
    for image in images:
        groups[image.path.parent, image.path.stem].append(image)
    twins = [group for group in groups.values() if len({file.path.suffix.lower() for file in group}) == 2]
    masks = [file for group in twins for file in group if file.path.suffix.lower() == EXACT[0]]
    return masks if len(masks) == len(twins) >= MATCHED * len(groups) else []


def _versions(sort: str, masks: list[_File], images: list[_File]) -> dict[str, list[_File]]:
    """The masks of a sort by their folders if images have a map in several: v1.2/instances and v2.0/instances."""
    maps: dict[tuple[Path, str], set[tuple[str, ...]]] = defaultdict(set)
    for mask, image, is_map in _images_of(masks, images):
        if image and is_map and mask.place >= 0:
            maps[image.path, _class_of(mask, image)].add(mask.parent)
    if all(len(parents) == 1 for parents in maps.values()):
        return {sort: masks}
    versions: dict[str, list[_File]] = defaultdict(list)
    for mask in masks:
        places = (re.sub(r"^\d+_", "", part) for part in mask.folders[: mask.place + 1] if not split_of(part))
        versions["/".join(places)].append(mask)
    return versions


@lru_cache(maxsize=4096)
def kind_of(name: str) -> str | None:
    """What a folder holds: image, mask, other, or None if its name does not tell."""
    words = [word.lower() for word in WORD.findall(name)]
    for kind, pattern in (("other", OTHER), ("mask", MASK), ("image", IMAGE)):
        if any(re.fullmatch(pattern, word) for word in words):
            return kind
    return None


def _kind_of_file(path: Path, stems: set[tuple[Path, str]], *, is_lone: bool) -> str | None:
    """What a file is by its name; a mask of one object must lie beside the image, since images have numbers too."""
    if is_lone and LONE_MASK.fullmatch(path.stem):
        return "mask"
    if OTHER_NAME.fullmatch(path.stem):
        return "other"
    part = PART_BESIDE.fullmatch(path.stem)
    return "mask" if MAP_NAME.fullmatch(path.stem) or (part and (path.parent, part[1]) in stems) else None


def _sort(folder: str) -> str:
    """A folder's name without splits: train_masks and val_masks are of one sort."""
    return " ".join(word.lower() for word in WORD.findall(folder) if word.lower() not in SPLIT_WORDS) or folder


def _images_of(masks: list[_File], images: list[_File]) -> Iterator[tuple[_File, _File | None, bool]]:
    """Each mask with its image, if it has one, and whether it is a map of all the image's objects by its name."""
    by_stem: dict[str, list[_File]] = defaultdict(list)
    by_parent: dict[tuple[str, ...], list[_File]] = defaultdict(list)
    for image in images:
        own, number = IMAGE_NAME.fullmatch(image.path.stem), NUMBER_NAME.fullmatch(image.path.stem)
        for stem in {image.path.stem, own[1] if own else image.path.stem, f"/{number[1]}" if number else ""}:
            by_stem[stem].append(image)
        by_parent[image.parent].append(image)
    yield from ((mask, *_image_of(mask, by_stem, by_parent)) for mask in masks)


def _match(folder: Path, images: list[_File], masks: list[_File]) -> dict[str, Pairs]:
    files: dict[tuple[Path, str], list[tuple[Path, bool]]] = defaultdict(list)  # by image and class
    unmatched: list[_File] = []
    for mask, image, is_map in _images_of(masks, images):
        if image is None:
            unmatched.append(mask)
        else:
            files[image.path, _class_of(mask, image)].append((mask.path, is_map))
    if not files or len(unmatched) > (1 - MATCHED) * len(masks):
        return {}
    jobs = {image.path: Job(image.path, []) for image in images}
    for (path, name), group in files.items():
        jobs[path].masks.extend(MaskFile(mask, name, is_map and len(group) == 1) for mask, is_map in group)
    places = {path.parent for path, _ in files} | {image.path.parent for image in images if _beside_masks(image)}
    maskless = [path for path, job in jobs.items() if not job.masks and path.parent not in places]
    jobs = {path: job for path, job in jobs.items() if job.masks or path.parent in places}
    notes = [("masks skipped that belong to no image", mask.path) for mask in unmatched]
    return _splits(folder, list(jobs.values()), notes, [(MASKLESS, path) for path in maskless])


def _beside_masks(image: _File) -> bool:
    """Whether a folder of masks, maybe an empty one, lies beside the image's."""
    place = image.path.parents[len(image.folders) - image.place]
    return image.place >= 0 and any(kind_of(path.name) == "mask" and path.is_dir() for path in place.iterdir())


def _image_of(
    mask: _File, by_stem: dict[str, list[_File]], by_parent: dict[tuple[str, ...], list[_File]]
) -> tuple[_File | None, bool]:
    """A mask's image, and whether its file name tells the image only, no number of an object."""
    stem = mask.path.stem
    stem = Path(stem).stem if Path(stem).suffix.lower() in SUFFIXES else stem  # cat7.jpg.png
    matches = [(stem, True), *((match[1], True) for match in [MAP_NAME.fullmatch(stem)] if match)]
    matches += [(match[1], False) for match in [PART_NAME.fullmatch(stem)] if match]
    matches += [(f"t{match[1]}", True) for match in [CELL_NAME.fullmatch(stem)] if match]
    matches += [(part, False) for part in reversed(mask.folders)]
    for name, is_map in matches:
        if image := _most_alike(mask, by_stem.get(name, ())):
            return image, is_map
    lone = LONE_MASK.fullmatch(stem)
    siblings = by_parent.get(mask.parent, []) if (lone or mask.place >= 0) and mask.parent else []
    if len(siblings) == 1:
        return siblings[0], bool(lone) and not lone[1]  # a folder for each image
    number = NUMBER_NAME.fullmatch(stem)
    return (_most_alike(mask, by_stem.get(f"/{number[1]}", ())) if number else None), True


def _most_alike(mask: _File, images: Iterable[_File]) -> _File | None:
    """The image whose folders have most in common with the mask's, if one has."""
    candidates = [image for image in images if len({_split(image.folders), _split(mask.folders)} - {None}) < 2]
    agreeing = [len(_tokens(mask.folders) & _tokens(image.folders)) for image in candidates]
    return candidates[agreeing.index(max(agreeing))] if agreeing and agreeing.count(max(agreeing)) == 1 else None


def _class_of(mask: _File, image: _File) -> str:
    """The folder of masks of one class: below that of the masks, neither a split nor one that the image is in too.

    Where masks lie beside images, the folder that numbers them: ``benign/benign (1).png``, as BUSI has them.
    """
    if mask.place < 0 and image.folders and re.fullmatch(r" \(\d+\)", image.path.stem.removeprefix(image.folders[-1])):
        return image.folders[-1]
    own = {*image.folders, image.path.stem}
    below = [part for part in mask.folders[mask.place + 1 :] if part not in own and not split_of(part)]
    return below[-1] if below and mask.place >= 0 else OBJECT


def _splits(folder: Path, jobs: list[Job], unmatched: Notes, maskless: Notes) -> dict[str, Pairs]:
    """The jobs of each split that has masks: as folders tell, else as lists of names such as train.txt do."""
    groups: dict[str, list[Job]] = defaultdict(list)
    for job in jobs:
        places = (job.image, *(mask.path for mask in job.masks[:1]))
        groups[next((split for path in places if (split := split_of_path(path, folder))), UNSPLIT)].append(job)
    if list(groups) == [UNSPLIT]:
        listed = _listed(folder)
        groups.clear()
        for job in jobs:
            names = (job.image.stem, job.image.parent.name)
            groups[next((listed[name] for name in names if name in listed), UNSPLIT)].append(job)
    unlisted = groups.pop(UNSPLIT, []) if "train" in groups else []
    notes = [*unmatched, *(("images left out that belong to no split", job.image) for job in unlisted), *maskless]
    names = [name for name in (*SPLIT_NAMES, UNSPLIT) if any(job.masks for job in groups[name])]
    return {name: Pairs(groups[name], notes if name == names[0] else []) for name in names}


def _listed(folder: Path) -> dict[str, str]:
    """The split of each stem, or folder, that a text file called after the split lists."""
    splits: dict[str, str] = {}
    for path in walk(folder, {".txt"}):
        if split := split_of(path.stem):
            with contextlib.suppress(UserError):
                splits |= {Path(line.split()[0]).stem: split for line in read_lines(path)}
    return splits
