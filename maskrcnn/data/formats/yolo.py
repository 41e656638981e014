"""YOLO's text files, a line an object: ``class x1 y1 x2 y2 ...`` (a polygon) or ``class cx cy w h`` (a box).

Coordinates are fractions of the image's size. hotcoco's ``from_yolo`` refuses polygons, needs data.yaml in the folder
of the labels and knows no splits, hence a reader of our own.
"""

import functools
import math
import os
from collections import defaultdict
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from maskrcnn.data.formats.content import Content, Size, clip_box, clip_points
from maskrcnn.data.formats.data_yaml import DataYaml, read_data_yaml
from maskrcnn.data.formats.folders import by_split, child, split_of, split_of_path, unwrap, walk
from maskrcnn.data.formats.found_dataset import SPLIT_NAMES, UNSPLIT, FoundDataset, RawSplit, found_dataset
from maskrcnn.data.formats.image_files import ImageFinder
from maskrcnn.imaging.read import SUFFIXES
from maskrcnn.input_files import read_head, read_lines, read_text

TOLERANCE = 0.1  # coordinates this far outside 0..1 are clipped; farther ones are not fractions of the image's size
NAME_FILES = ("classes.txt", "obj.names", "labels/classes.txt", "classes.names", "class_names.txt", "names.txt")
NAME_FILES += ("labels.txt", "predefined_classes.txt", "*.names", "*/obj.names", "labels/*/classes.txt")
PEEK_IMAGES, PEEK_LABELS = 500, 10


class Line(NamedTuple):
    """A line of a label file."""

    number: int
    problem: str | None = None  # why it is skipped
    class_id: int = 0
    values: tuple[float, ...] = ()


def find(folder: Path) -> FoundDataset | None:
    """A dataset with YOLO labels, with or without data.yaml, split or not."""
    yaml = read_data_yaml(folder)
    folder = unwrap(folder)
    yaml, finder, labels = yaml or read_data_yaml(folder), ImageFinder(folder), LabelFinder(folder)
    sources = _find_sources(folder, yaml, finder)
    peeked = [lines for group in sources.values() for lines in _peek(labels, _images(group, finder))]
    named = yaml is not None and any(True for group in sources.values() for _ in _images(group, finder))
    if not any(peeked) and not (named and not peeked):
        return None
    has_keypoints = bool(yaml and yaml.has_keypoints)
    polygons = not has_keypoints and any(len(line.values) > 4 for lines in peeked for line in lines)

    @functools.cache
    def names() -> dict[int, str]:
        images = (image for group in sources.values() for image in _images(group, finder))
        return (yaml.names if yaml else {}) or _class_names(labels, images)

    def read(name: str) -> RawSplit:
        split = _read(labels, list(_images(sources[name], finder)), names(), boxes=has_keypoints).split()
        if names() and not (yaml and yaml.names) and _names_file(folder) is None:
            split.notes.append(_unnamed(names()))
        return split

    def list_files(name: str) -> list[Path]:
        found = (labels.find(image) for image in _images(sources[name], finder))
        shared = (yaml.path if yaml else None, None if yaml and yaml.names else _names_file(folder))
        return [path for path in (*shared, *found) if path]

    def origin(name: str) -> Path:
        first = sources[name][0]
        return folder if first.suffix.lower() in SUFFIXES else first

    format = "YOLO segmentation" if polygons else "YOLO detection"
    return found_dataset(format, sources, read, origin=origin, list_files=list_files)


def _find_sources(folder: Path, yaml: DataYaml | None, finder: ImageFinder) -> dict[str, list[Path]]:
    """The splits' images: as data.yaml names them, then by the names of folders and lists; else the whole folder.

    A source is a folder, a text file that lists images, or an image.
    """
    sources = dict(yaml.splits) if yaml else {}
    for candidate in _split_candidates(folder):
        split = split_of(candidate.parent.name if candidate.name.lower() == "images" else candidate.stem)
        if split and split not in sources and any(_images([candidate], finder)):
            sources[split] = [candidate]
    sources = sources or by_split(walk(folder, SUFFIXES), folder)
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


def _images(sources: list[Path], finder: ImageFinder) -> Iterator[Path]:
    """The images of a split, in a stable order."""
    for source in sources:
        if os.path.isdir(source):
            yield from walk(source, SUFFIXES)
        elif source.suffix.lower() in SUFFIXES:
            yield source
        else:
            yield from (image for line in read_lines(source) if (image := finder.find(line, source.parent)))


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


def _peek(labels: LabelFinder, images: Iterator[Path]) -> Iterator[list[Line]]:
    """The valid lines of each of a split's first label files; empty files are passed over."""
    files = (label for image in islice(images, PEEK_IMAGES) if (label := labels.find(image)))
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


def _class_names(labels: LabelFinder, images: Iterator[Path]) -> dict[int, str]:
    """Names by class id: of a list of names, or ``class 7`` for each id that a split has."""
    if file := _names_file(labels.folder):
        return dict(enumerate(read_lines(file)))
    files = {label for image in images if (label := labels.find(image))}
    lines = (line for label in files for line in _parse(read_text(label)))
    return {id: f"class {id}" for id in sorted({line.class_id for line in lines if not line.problem})}


def _names_file(folder: Path) -> Path | None:
    """The list of names beside the labels, if there is one."""
    files = (path for pattern in NAME_FILES for path in sorted(folder.glob(pattern)) if path.is_file())
    return next((path for path in files if _are_names(read_lines(path))), None)


def _are_names(lines: list[str]) -> bool:
    """Whether lines are neither images, as in lists of them, nor objects, as in the labels of classes.jpg."""
    images = any(Path(line).suffix.lower() in SUFFIXES for line in lines)
    return bool(lines) and not images and all(line.problem for line in _parse("\n".join(lines)))


def _unnamed(names: dict[int, str]) -> str:
    listed = ", ".join(list(names.values())[:3]) + (", ..." if len(names) > 3 else "")
    hint = "name them in a data.yaml, as in `names: [cat, dog]`, or in classes.txt, a line each"
    return f"no list names the classes, which are called {listed}; {hint}"


def _read(finder: LabelFinder, images: list[Path], names: dict[int, str], *, boxes: bool) -> Content:
    content = Content(finder.folder, list(names.values()))
    labels = [finder.find(image) for image in images]
    if images and not any(labels):
        content.note("splits without label files, so without objects", images[0].parent)
    for image, size, label in content.readable(zip(images, labels, strict=True)):
        image_id = content.add_image(image, size)
        for line in _parse(read_text(label)) if label else ():
            example = f"{label}, line {line.number}"
            if line.problem:
                content.note(line.problem, example)
            elif line.class_id not in names:
                content.note(f"objects skipped whose class has no name ({len(names)} names)", example)
            elif boxes or len(line.values) == 4:  # of keypoints, a box comes first
                box = _box(line.values, size)
                content.add_object(image_id, names[line.class_id], None, box=box, example=example)
            else:
                points = [(x * size[1], y * size[0]) for x, y in zip(line.values[0::2], line.values[1::2], strict=True)]
                content.add_object(image_id, names[line.class_id], [clip_points(points, size)], example=example)
    return content


def _box(values: tuple[float, ...], size: Size) -> list[float]:
    x, y, w, h = values[:4]
    height, width = size
    return clip_box((x - w / 2) * width, (y - h / 2) * height, (x + w / 2) * width, (y + h / 2) * height, size)
