"""YOLO's text files, a line an object: ``class x1 y1 x2 y2 ...`` (a polygon) or ``class cx cy w h`` (a box).

Coordinates are fractions of the image's size. hotcoco's ``from_yolo`` refuses polygons, needs data.yaml in the folder
of the labels and knows no splits, hence a reader of our own.
"""

import functools
import math
import os
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

from maskrcnn.data.formats.content import Content, Size, clip_points, read_sizes
from maskrcnn.data.formats.data_yaml import DataYaml, read_data_yaml
from maskrcnn.data.formats.folders import SPLIT_NAMES, by_split, child, split_of, split_of_path, unwrap, walk
from maskrcnn.data.formats.found_dataset import UNSPLIT, FoundDataset, FoundSplit, RawSplit
from maskrcnn.data.formats.image_files import ImageFinder
from maskrcnn.imaging.read import SUFFIXES
from maskrcnn.input_files import read_head, read_text

TOLERANCE = 0.1  # coordinates this far outside 0..1 are clipped; farther ones are not fractions of the image's size
NAME_FILES = ("classes.txt", "obj.names", "labels/classes.txt", "classes.names", "class_names.txt", "names.txt")
NAME_FILES += ("labels.txt", "predefined_classes.txt", "*.names", "*/obj.names", "labels/*/classes.txt")
PEEK_IMAGES, PEEK_LABELS = 500, 10


@dataclass(frozen=True)
class Line:
    """A line of a label file."""

    number: int
    problem: str | None = None  # why it is skipped
    class_id: int = 0
    values: tuple[float, ...] = ()


@dataclass(frozen=True)
class Source:
    """Where the images of a split are: a folder, a list of paths in a text file, or known."""

    path: Path
    files: tuple[Path, ...] = ()

    def images(self, finder: ImageFinder) -> Iterator[Path]:
        """The images, in a stable order."""
        if self.files:
            yield from self.files
        elif os.path.isdir(self.path):
            yield from walk(self.path, SUFFIXES)
        else:
            for line in read_text(self.path).splitlines():
                if line.strip() and (image := finder.find(line, self.path.parent)):
                    yield image


def find(folder: Path) -> FoundDataset | None:
    """A dataset with YOLO labels, with or without data.yaml, split or not."""
    yaml = read_data_yaml(folder)
    folder = unwrap(folder)
    yaml, finder, labels = yaml or read_data_yaml(folder), ImageFinder(folder), LabelFinder(folder)
    sources = _find_sources(folder, yaml, finder)
    peeked = [lines for group in sources.values() for lines in _peek(labels, group, finder)]
    named = yaml is not None and any(True for group in sources.values() for _ in _images(group, finder))
    if not any(peeked) and not (named and not peeked):
        return None
    values = [line.values for lines in peeked for line in lines]
    polygons = not (yaml and yaml.has_keypoints) and any(len(value) > 4 for value in values)
    names = functools.cache(lambda: _class_names(labels, yaml, sources, finder))

    def found(split: str) -> FoundSplit:
        group = sources[split]

        def read() -> RawSplit:
            split = _read(labels, list(_images(group, finder)), names(), boxes=bool(yaml and yaml.has_keypoints))
            unnamed = names() and not (yaml and yaml.names) and _names_file(folder) is None
            return replace(split, notes=[*split.notes, _unnamed(names())]) if unnamed else split

        def list_files() -> list[Path]:
            found = (labels.find(image) for image in _images(group, finder))
            shared = (yaml.path if yaml else None, None if yaml and yaml.names else _names_file(folder))
            return [path for path in (*shared, *found) if path]

        return FoundSplit(split, group[0].path, read, list_files)

    return FoundDataset("YOLO segmentation" if polygons else "YOLO detection", tuple(map(found, sources)))


def _find_sources(folder: Path, yaml: DataYaml | None, finder: ImageFinder) -> dict[str, list[Source]]:
    """The splits' images: as data.yaml names them, then by the names of folders and lists; else the whole folder."""
    sources: dict[str, list[Source]] = {}
    for name, paths in (yaml.splits if yaml else {}).items():
        sources[name] = [Source(path) for path in paths]
    for candidate in _split_candidates(folder):
        split = split_of(candidate.parent.name if candidate.name.lower() == "images" else candidate.stem)
        if split and split not in sources and any(Source(candidate).images(finder)):
            sources[split] = [Source(candidate)]
    if not sources:
        images = by_split(walk(folder, SUFFIXES), folder, UNSPLIT)
        sources = {name: [Source(folder, tuple(files))] for name, files in images.items()}
    return {name: sources[name] for name in (*SPLIT_NAMES, UNSPLIT) if name in sources}


def _split_candidates(folder: Path) -> Iterator[Path]:
    """``images/train``, ``train/images``, ``train``, ``obj_train_data``, then lists of images such as ``train.txt``."""
    images = child(folder, "images")
    yield from sorted(path for path in images.iterdir() if path.is_dir()) if images else ()
    for path in sorted(path for path in folder.iterdir() if path.is_dir() and split_of(path.name)):
        yield child(path, "images") or path
    for path in sorted(folder.glob("*.txt")):
        lines = read_head(path, 1000).decode(errors="replace").split("\n") if split_of(path.stem) else [""]
        if Path(lines[0].strip()).suffix.lower() in SUFFIXES:
            yield path


def _images(sources: list[Source], finder: ImageFinder) -> Iterator[Path]:
    return (image for source in sources for image in source.images(finder))


class LabelFinder:
    """Finds the label files of a folder's images."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @functools.cached_property
    def _by_stem(self) -> dict[str, list[Path]]:
        files: dict[str, list[Path]] = defaultdict(list)
        for path in walk(self.folder, {".txt"}):
            files[path.stem].append(path)
        return files

    def find(self, image: Path) -> Path | None:
        """An image's label file: in ``labels`` in place of ``images``, beside it, in ``labels`` beside its folder, or
        the only one of its name, as in ``my_labels/cat.txt`` and ``my_labels/cat.jpg.txt``."""
        for depth, parent in enumerate(image.parents):
            if parent.name.lower() == "images":
                inner = image.relative_to(parent).with_suffix(".txt")
                for name in ("labels", "Labels"):
                    if (label := parent.parent / name / inner).is_file():
                        return label
            if parent == self.folder or depth > 8:
                break
        stem = f"{image.stem}.txt"
        split = split_of(image.parent.name)
        others = [image.parent / stem, image.parent / "labels" / stem, image.parent.parent / "labels" / stem]
        if split:
            others.append(image.parent.parent / "labels" / image.parent.name / stem)
        return next((label for label in others if label.is_file()), None) or self._by_name(image)

    def _by_name(self, image: Path) -> Path | None:
        """The only label file of an image's name that is in no other split."""
        if not image.is_relative_to(self.folder):
            return None
        split = split_of_path(image, self.folder)
        groups = (self._by_stem.get(name, []) for name in (image.stem, image.name))
        only = (group[0] for group in groups if len(group) == 1)
        return next((label for label in only if split_of_path(label, self.folder) == split), None)


def _peek(labels: LabelFinder, sources: list[Source], finder: ImageFinder) -> Iterator[list[Line]]:
    """The valid lines of each of a split's first label files; empty files are passed over."""
    images = islice(_images(sources, finder), PEEK_IMAGES)
    files = (label for image in images if (label := labels.find(image)))
    texts = (text for label in files if (text := read_text(label)).strip())
    for text in islice(texts, PEEK_LABELS):
        yield [line for line in _parse(text) if not line.problem]


def _parse(text: str) -> Iterator[Line]:
    """The lines of a label file that are not empty."""
    seen = set()
    for number, text_line in enumerate(text.splitlines(), start=1):
        tokens = tuple(text_line.replace(",", " ").split())
        if not tokens:
            continue
        try:
            class_id, *values = map(float, tokens)
        except ValueError:
            yield Line(number, "lines skipped that are not numbers")
            continue
        problem = "repeated lines skipped" if tokens in seen else _problem(class_id, values)
        seen.add(tokens)
        yield Line(number, problem) if problem else Line(number, None, int(class_id), tuple(values))


def _problem(class_id: float, values: list[float]) -> str | None:
    if not all(map(math.isfinite, (class_id, *values))) or class_id != int(class_id) or class_id < 0:
        return "lines skipped that are not a class and finite numbers"
    if len(values) < 4 or len(values) % 2:
        return "lines skipped that are neither a box (4 numbers after the class) nor a polygon (x and y of each point)"
    if min(values) < -TOLERANCE or max(values) > 1 + TOLERANCE:
        return "lines skipped with coordinates far outside 0 to 1 (divide pixels by the image's width and height)"
    return None


def _class_names(
    labels: LabelFinder, yaml: DataYaml | None, sources: dict[str, list[Source]], finder: ImageFinder
) -> dict[int, str]:
    """Names by class id: of data.yaml, of a list of names, or ``class 7`` for each id that a split has."""
    if yaml and yaml.names:
        return yaml.names
    if file := _names_file(labels.folder):
        return dict(enumerate(_lines(file)))
    images = (image for group in sources.values() for image in _images(group, finder))
    files = {label for image in images if (label := labels.find(image))}
    lines = (line for label in files for line in _parse(read_text(label)))
    return {id: f"class {id}" for id in sorted({line.class_id for line in lines if not line.problem})}


def _names_file(folder: Path) -> Path | None:
    """The list of names beside the labels, if there is one."""
    files = (path for pattern in NAME_FILES for path in sorted(folder.glob(pattern)) if path.is_file())
    return next((path for path in files if _are_names(_lines(path))), None)


def _are_names(lines: list[str]) -> bool:
    """Whether lines are neither images, as in lists of them, nor objects, as in the labels of classes.jpg."""
    images = any(Path(line).suffix.lower() in SUFFIXES for line in lines)
    return bool(lines) and not images and all(line.problem for line in _parse("\n".join(lines)))


def _lines(path: Path) -> list[str]:
    return [line for text in read_text(path).splitlines() if (line := text.strip())]


def _unnamed(names: dict[int, str]) -> str:
    listed = ", ".join(list(names.values())[:3]) + (", ..." if len(names) > 3 else "")
    hint = "name them in a data.yaml, as in `names: [cat, dog]`, or in classes.txt, a line each"
    return f"no list names the classes, which are called {listed}; {hint}"


def _read(finder: LabelFinder, images: list[Path], names: dict[int, str], *, boxes: bool) -> RawSplit:
    content = Content(finder.folder, list(names.values()))
    labels = [finder.find(image) for image in images]
    if images and not any(labels):
        content.notes.add("splits without label files, so without objects", images[0].parent)
    for image, label, size in zip(images, labels, read_sizes(images), strict=True):
        if size is None:
            content.notes.add("unreadable images skipped", image)
            continue
        image_id = content.add_image(image, size)
        for line in _parse(read_text(label)) if label else ():
            example = f"{label}, line {line.number}"
            if line.problem:
                content.notes.add(line.problem, example)
            elif line.class_id not in names:
                content.notes.add(f"objects skipped whose class has no name ({len(names)} names)", example)
            elif boxes or len(line.values) == 4:
                box = _box(line.values, size)
                content.add_object(image_id, names[line.class_id], None, box=box, example=example)
            else:
                polygon = _polygon(line.values, size)
                content.add_object(image_id, names[line.class_id], polygon, example=example)
    return content.split()


def _box(values: tuple[float, ...], size: Size) -> list[float]:
    """``xywh`` in pixels of a line that is, or of keypoints begins with, a box."""
    x, y, w, h = values[:4]
    height, width = size
    left, right = (min(max(side, 0.0), 1.0) * width for side in (x - w / 2, x + w / 2))
    top, bottom = (min(max(side, 0.0), 1.0) * height for side in (y - h / 2, y + h / 2))
    return [left, top, right - left, bottom - top]


def _polygon(values: tuple[float, ...], size: Size) -> list[list[float]]:
    height, width = size
    return [clip_points([(x * width, y * height) for x, y in zip(values[0::2], values[1::2], strict=True)], size)]
