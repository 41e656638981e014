"""Finds the images that annotations name, wherever they lie now.

Annotation files carry paths of the machine that wrote them: of Windows, of a server, URLs, in another letter case, or
without a suffix. All files of a dataset are listed once; the one whose path agrees best with the name is taken.
"""

import contextlib
import os
import re
import threading
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterator
from itertools import takewhile
from pathlib import Path, PurePosixPath
from urllib.parse import parse_qs, unquote, urlsplit

from maskrcnn.data.formats.folders import split_of, walk
from maskrcnn.imaging.read import SUFFIXES

IMAGE_FOLDERS = {"images", "image", "imgs", "img", "jpegimages", "data", "pictures", "photos"}
MASK_FOLDERS = {"mask", "masks", "label", "labels", "annotations", "annots", "segmentationclass", "segmentationobject"}
DRAWN_FOLDERS = {"visualized", "visualization", "visualizations", "vis", "overlay", "overlays", "preview", "previews"}
SAME_SUFFIX = {".jpeg": ".jpg", ".tiff": ".tif"}
OF_URLS = re.compile(r"[%?#:]|^//")
UPLOAD_PREFIX = re.compile(r"^[0-9a-f]{8}-")  # Label Studio's


class ImageFinder:
    """Finds images of a folder by the names that annotations give; safe to share among threads.

    Args:
        folder: hidden folders in it and our own records are left out.
        split: the split that is looked for, if any: images in folders of others are not preferred.
    """

    def __init__(self, folder: Path, split: str | None = None) -> None:
        self.folder, self.split = folder, split
        self._lock = threading.Lock()
        self._index: dict[str, list[PurePosixPath]] = {}  # by name, and by stem without its suffix

    def find(self, reference: str, near: Path) -> Path | None:
        """The image that ``reference`` means in an annotation file of the folder ``near``; None if there is none.

        Of several, the one that is written, lies beside the annotations, is of the split, or whose path agrees most
        with the reference, in that order; none if two are as likely.
        """
        if "\0" in reference:
            return None
        for name in possible_names(reference):
            candidates = self._candidates(name)
            if len(candidates) == 1:
                return self.folder / candidates[0]
            if candidates:
                ranked = sorted(((self._rank(path, name, near), path) for path in candidates), reverse=True)
                if ranked[0][0] > ranked[1][0]:
                    return self.folder / ranked[0][1]
            elif name.suffix.lower() in SUFFIXES and os.path.isfile(near / name):  # outside the folder
                return Path(os.path.normpath(near / name))
        return None

    def places(self, reference: str) -> list[Path]:
        """The folders of all files that ``reference`` may mean."""
        found = (self._candidates(name) for name in possible_names(reference))
        return sorted({self.folder / path.parent for paths in found for path in paths})

    def _candidates(self, name: PurePosixPath) -> list[PurePosixPath]:
        """The files of that name in any letter case, else those that differ in the suffix, but for masks."""
        with self._lock:
            if not self._index:
                index, depth = defaultdict(list), len(self.folder.parts)
                for path in walk(self.folder, SUFFIXES):
                    relative = PurePosixPath(*path.parts[depth:])
                    index[_folded(path.name)].append(relative)
                    index[f"{_same(path.stem)}/"].append(relative)
                self._index = index
        if exact := self._index.get(_folded(name.name)):
            return exact
        stems = (name.stem, name.name) if name.suffix.lower() in SUFFIXES else (name.name, name.stem)
        for others in (self._index.get(f"{_same(stem)}/", []) for stem in stems):
            if images := [path for path in others if MASK_FOLDERS.isdisjoint(map(str.lower, path.parts[:-1]))]:
                return images
        return []

    def _rank(self, path: PurePosixPath, name: PurePosixPath, near: Path) -> tuple[int, ...]:
        folders = path.parts[:-1]
        place = PurePosixPath(os.path.relpath(near, self.folder).replace(os.sep, "/")).parts
        splits = {split_of(folder) for folder in folders} - {None}
        lowered = {folder.lower() for folder in folders}
        of_split = 0 if not splits or self.split is None else 1 if self.split in splits else -1
        kind = bool(lowered & IMAGE_FOLDERS) - 2 * bool(lowered & (MASK_FOLDERS | DRAWN_FOLDERS))
        written = path.parts == tuple(os.path.normpath(PurePosixPath(*place, name)).split(os.sep))
        agreeing, nearness = _common(path.parts[::-1], name.parts[::-1]), _common(folders, place)
        exact = int(path.name == name.name)
        return written, folders == place, of_split, agreeing, nearness, kind, exact, -len(folders)


def possible_names(file_name: str) -> Iterator[PurePosixPath]:
    """Paths that a name may mean: as it stands, of Windows, of a URL and its query, without an uploader's prefix."""
    text = file_name.replace("\\", "/").strip()
    texts = [text]
    if OF_URLS.search(text):
        with contextlib.suppress(ValueError):  # "//[x" is no URL
            url = urlsplit(text)
            texts = [text, unquote(text), *(parse_qs(url.query).get("d", [])), unquote(url.path)]
    paths = [PurePosixPath(text) for text in dict.fromkeys(texts)]
    yield from (path for path in paths if path.name)
    name = paths[-1].name
    if UPLOAD_PREFIX.match(name):
        yield PurePosixPath(UPLOAD_PREFIX.sub("", name))


def locate(names: list[str], finder: ImageFinder, near: Path) -> tuple[Path, dict[str, str], list[str]]:
    """Where the images that an annotation file in ``near`` names lie.

    Returns:
        The folder that most names are relative to; the names to use, relative to it; and names that had to be
        looked for elsewhere.
    """
    places = {name: path for name in names if (path := finder.find(name, near)) is not None}
    found = _one_to_one({name: PurePosixPath(path.as_posix()) for name, path in places.items()})
    bases = Counter(base for name, path in found.items() if (base := _base(path, name)) is not None)
    base = bases.most_common(1)[0][0] if bases else next(iter(found.values()), PurePosixPath("x")).parent
    renamed = {name: _relative(path, base) for name, path in found.items()}
    moved = [name for name, new in renamed.items() if name != new and PurePosixPath(name) != PurePosixPath(new)]
    return Path(base), renamed, moved


def _relative(path: PurePosixPath, base: PurePosixPath) -> str:
    if path.is_relative_to(base):
        return "/".join(path.parts[len(base.parts) :])
    return os.path.relpath(path, base).replace(os.sep, "/")


def _one_to_one(found: dict[str, PurePosixPath]) -> dict[str, PurePosixPath]:
    """Without the names that share their file with one that fits it better: a/0.jpg is not b/0.jpg."""
    names: dict[PurePosixPath, list[str]] = {}
    for name, path in found.items():
        names.setdefault(path, []).append(name)
    kept = set()
    for path, rivals in names.items():
        fits = [0]
        if len(rivals) > 1:
            fits = [max(_common(path.parts[::-1], one.parts[::-1]) for one in possible_names(name)) for name in rivals]
        if fits.count(max(fits)) == 1:
            kept.add(rivals[fits.index(max(fits))])
    return {name: path for name, path in found.items() if name in kept}


def _base(path: PurePosixPath, name: str) -> PurePosixPath | None:
    """The folder that ``name`` is relative to if it is ``path``."""
    parts = PurePosixPath(name).parts
    return PurePosixPath(*path.parts[: -len(parts)]) if parts and path.parts[-len(parts) :] == parts else None


def _same(name: str) -> str:
    """A name in one letter case and one way of writing accents: archives of macOS have them as letters of their own."""
    return unicodedata.normalize("NFC", name).lower()


def _folded(name: str) -> str:
    stem, suffix = os.path.splitext(_same(name))
    return stem + SAME_SUFFIX.get(suffix, suffix)


def _common(left: tuple[str, ...], right: tuple[str, ...]) -> int:
    """How many leading parts agree, letter case aside."""
    return len(list(takewhile(lambda pair: _folded(pair[0]) == _folded(pair[1]), zip(left, right, strict=False))))
