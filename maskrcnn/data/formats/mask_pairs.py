"""Images and their mask files, matched by names of folders and files."""

import re
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

from maskrcnn.data.formats.folders import SPLIT_NAMES, child, split_of, walk
from maskrcnn.data.formats.found import UNSPLIT
from maskrcnn.imaging.read import SUFFIXES

IMAGE_FOLDERS = ("images", "image", "imgs", "img", "jpegimages", "inputs")
MASK_FOLDERS = (
    *("masks", "mask", "instance_masks", "instances", "instance_maps", "labels", "label", "annotations"),
    *("segmentations", "segmentation", "groundtruth", "ground_truth", "gt"),
)
MASK_SUFFIXES = (".png", ".tif", ".tiff", ".bmp")  # without loss
WORDS = r"(?:masks?|labels?|inst|instances?|instanceids|objects?|obj|gt|seg|segmentation)"
MAP_NAME = re.compile(rf"(.+?)[_\-. ]{WORDS}", re.IGNORECASE)  # cat7_mask
PART_NAME = re.compile(rf"(.+?)[_\-. ](?:{WORDS}[_\-. ]?)?\d+", re.IGNORECASE)  # cat7_1, cat7_mask_1, cat7_mask1
OBJECT = "object"
MATCHED = 0.8  # the fraction of mask files that must belong to an image; else they are something else


@dataclass(frozen=True)
class MaskFile:
    """A mask file of an image."""

    path: Path
    name: str  # of the class
    is_map: bool  # the only one of its class for the image, so that its values may tell objects apart


@dataclass(frozen=True)
class Job:
    """An image and its mask files."""

    image: Path
    masks: list[MaskFile] = field(default_factory=list)


@dataclass(frozen=True)
class Pairs:
    """The images of a split with their masks."""

    origin: Path
    jobs: list[Job]
    unmatched: list[Path]  # masks without an image


def find_pairs(folder: Path) -> dict[str, Pairs]:
    """The pairs of each split; nothing where folders or names do not match."""
    splits = {split: path for path in _folders(folder) if (split := split_of(path.name))}
    found = {name: pairs for name, path in splits.items() if (pairs := _pairs_in(path))}
    images, masks = child(folder, *IMAGE_FOLDERS), child(folder, *MASK_FOLDERS)
    if not found and images and masks:
        for inner in _folders(images):
            name, other = split_of(inner.name), child(masks, inner.name.lower())
            if name and other and (pairs := _match(inner, other)):
                found[name] = pairs
    if not found and (pairs := _pairs_in(folder)):
        found = {UNSPLIT: pairs}
    return {name: found[name] for name in (*SPLIT_NAMES, UNSPLIT) if name in found}


def _folders(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))


def _pairs_in(folder: Path) -> Pairs | None:
    images, masks = child(folder, *IMAGE_FOLDERS), child(folder, *MASK_FOLDERS)
    return _match(images, masks) if images and masks else _folder_per_image(folder)


def _folder_per_image(folder: Path) -> Pairs | None:
    """DSB 2018: ``NAME/images/NAME.png`` and ``NAME/masks/*.png``, a mask an object."""
    jobs = []
    for inner in _folders(folder):
        images, masks = child(inner, "images", "image"), child(inner, "masks", "mask")
        files = list(walk(images, SUFFIXES)) if images and masks else []
        if masks and len(files) == 1:
            jobs.append(Job(files[0], [MaskFile(path, OBJECT, False) for path in walk(masks, MASK_SUFFIXES)]))
        elif len(files) > 1:
            return None
    return Pairs(folder, jobs, []) if any(job.masks for job in jobs) else None


def _match(images: Path, masks: Path) -> Pairs | None:
    """Pairs of a folder of images and one of masks, whose inner folders may be images or classes."""
    jobs = {path.stem: Job(path) for path in walk(images, SUFFIXES)}
    unmatched, total = [], 0
    files: dict[tuple[str, str], list[tuple[Path, bool]]] = defaultdict(list)  # by image and class
    for path in walk(masks, MASK_SUFFIXES):
        total += 1
        stem, is_map = _image_stem(path.relative_to(masks), jobs)
        if stem is None:
            unmatched.append(path)
            continue
        classes = [part for part in path.relative_to(masks).parts[:-1] if part not in jobs and not split_of(part)]
        files[stem, classes[-1] if classes else OBJECT].append((path, is_map))
    if not files or len(unmatched) > (1 - MATCHED) * total:
        return None
    for (stem, name), group in files.items():
        jobs[stem].masks.extend(MaskFile(path, name, is_map and len(group) == 1) for path, is_map in group)
    return Pairs(masks, list(jobs.values()), unmatched)


def _image_stem(path: Path, jobs: dict[str, Job]) -> tuple[str | None, bool]:
    """The stem of a mask's image, and whether its file name tells the image only, no number of an object."""
    if path.stem in jobs:
        return path.stem, True
    for pattern, is_map in ((MAP_NAME, True), (PART_NAME, False)):
        match = pattern.fullmatch(path.stem)
        if match and match[1] in jobs:
            return match[1], is_map
    return next((part for part in path.parts[:-1] if part in jobs), None), False
