"""Finds the images that annotations name, wherever they lie now.

Annotation files carry paths of the machine that wrote them: of Windows, of a server, URLs, or in another letter case.
All files of a dataset are listed once; the one whose path agrees best with the name is taken.
"""

import os
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from urllib.parse import parse_qs, unquote, urlsplit

from maskrcnn.data.formats.lookup import split_of, walk
from maskrcnn.imaging.read import SUFFIXES

IMAGE_FOLDERS = {"images", "image", "imgs", "img", "jpegimages", "data", "pictures", "photos"}
MASK_FOLDERS = {"mask", "masks", "label", "labels", "annotations", "annots", "segmentationclass", "segmentationobject"}
SAME_SUFFIX = {".jpeg": ".jpg", ".tiff": ".tif"}
UPLOAD_PREFIX = re.compile(r"^[0-9a-f]{8}-")  # Label Studio's


class ImageFiles:
    """The image files of a folder, by name.

    Args:
        root: the folder; hidden folders and our own records are left out.
        near: the folder of the annotations, whose images are preferred.
        split: the split that is looked for, if any: images in folders of others are not preferred.
    """

    def __init__(self, root: Path, near: Path, split: str | None) -> None:
        self.root, self.split = root, split
        self.near = near.relative_to(root).parts if near.is_relative_to(root) else ()
        self._files: dict[str, list[PurePosixPath]] = {}
        for path in walk(root, SUFFIXES):
            self._files.setdefault(_folded(path.name), []).append(PurePosixPath(path.relative_to(root).as_posix()))

    def find(self, file_name: str) -> PurePosixPath | None:
        """The file's path relative to the root; None if there is none, or two are as likely."""
        for name in possible_names(file_name):
            if candidates := self._files.get(_folded(name.name)):
                ranked = sorted(((self._rank(path, name), path) for path in candidates), reverse=True)
                if len(ranked) == 1 or ranked[0][0] > ranked[1][0]:
                    return ranked[0][1]
        return None

    def _rank(self, path: PurePosixPath, name: PurePosixPath) -> tuple[int, ...]:
        folders = path.parts[:-1]
        splits = {split_of(folder) for folder in folders} - {None}
        lowered = {folder.lower() for folder in folders}
        of_split = 0 if not splits or self.split is None else 1 if self.split in splits else -1
        kind = bool(lowered & IMAGE_FOLDERS) - 2 * bool(lowered & MASK_FOLDERS)
        near = _common(folders, self.near)
        exact = int(path.name == name.name)
        return of_split, _common(path.parts[::-1], name.parts[::-1]), near, kind, exact, -len(folders)


def possible_names(file_name: str) -> Iterator[PurePosixPath]:
    """Paths that a name may mean: as it stands, of Windows, of a URL and its query, without an uploader's prefix."""
    text = file_name.replace("\\", "/").strip()
    url = urlsplit(text)
    texts = [text, unquote(text), *(parse_qs(url.query).get("d", [])), unquote(url.path)]
    for text in dict.fromkeys(texts):
        if PurePosixPath(text).name:
            yield PurePosixPath(text)
    name = PurePosixPath(unquote(url.path)).name
    if PurePosixPath(name).suffix.lower() not in SUFFIXES:
        yield from (PurePosixPath(f"{name}{suffix}") for suffix in sorted(SUFFIXES) if name)
    if UPLOAD_PREFIX.match(name):
        yield PurePosixPath(UPLOAD_PREFIX.sub("", name))


def locate(names: list[str], files: ImageFiles) -> tuple[Path, dict[str, str], list[str]]:
    """Where images lie.

    Returns:
        The folder that most names are relative to; the names to use, relative to it; and names that had to be
        looked for elsewhere.
    """
    found = _one_to_one({name: path for name in names if (path := files.find(name)) is not None})
    bases = Counter(base for name, path in found.items() if (base := _base(path, name)) is not None)
    base = bases.most_common(1)[0][0] if bases else next(iter(found.values()), PurePosixPath("x")).parent
    image_dir = files.root / base
    renamed = {name: os.path.relpath(path, base) for name, path in found.items()}
    moved = [name for name, new in renamed.items() if PurePosixPath(name) != PurePosixPath(new)]
    return image_dir, renamed, moved


def _one_to_one(found: dict[str, PurePosixPath]) -> dict[str, PurePosixPath]:
    """Without the names that share their file with one that fits it better: a/0.jpg is not b/0.jpg."""
    names: dict[PurePosixPath, list[str]] = {}
    for name, path in found.items():
        names.setdefault(path, []).append(name)
    kept = {}
    for path, rivals in names.items():
        fits = [max(_common(path.parts[::-1], one.parts[::-1]) for one in possible_names(name)) for name in rivals]
        if fits.count(max(fits)) == 1:
            kept[rivals[fits.index(max(fits))]] = path
    return {name: path for name, path in found.items() if name in kept}


def _base(path: PurePosixPath, name: str) -> PurePosixPath | None:
    """The folder that ``name`` is relative to if it is ``path``."""
    parts = PurePosixPath(name).parts
    return PurePosixPath(*path.parts[: -len(parts)]) if parts and path.parts[-len(parts) :] == parts else None


def _folded(name: str) -> str:
    path = PurePosixPath(name.lower())
    return path.with_suffix(SAME_SUFFIX[path.suffix]).name if path.suffix in SAME_SUFFIX else path.name


def _common(left: tuple[str, ...], right: tuple[str, ...]) -> int:
    """How many leading parts agree, letter case aside."""
    count = 0
    for a, b in zip(left, right, strict=False):
        if _folded(a) != _folded(b):
            break
        count += 1
    return count
