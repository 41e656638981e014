"""COCO JSON in the layouts in which tools export it: COCO 2017's, Roboflow's, CVAT's, Label Studio's, or one file of
any name beside its images."""

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from maskrcnn.data.coco.annotations import read_coco_json
from maskrcnn.data.formats.coco_parts import join, shared_image
from maskrcnn.data.formats.dialects import dialect_of
from maskrcnn.data.formats.folders import IGNORED_FOLDERS, split_of
from maskrcnn.data.formats.found_dataset import UNSPLIT, FoundDataset, FoundSplit, RawSplit
from maskrcnn.data.formats.hints import other_json
from maskrcnn.data.formats.image_files import ImageFinder, locate
from maskrcnn.errors import UserError
from maskrcnn.imaging.read import FORMAT_NAMES, SUFFIXES
from maskrcnn.input_files import ARCHIVES, open_regular

PEEK_BYTES = 1 << 16  # of either end of a file, enough to see the name of one of its lists
LIST = re.compile(rb'"(images|annotations)"\s*:\s*[\[{]')
OTHER_TASKS = ("captions", "stuff", "panoptic", "image_info")
KEYPOINTS = "person_keypoints"  # which may have masks too
ROBOFLOW = "_annotations.coco.json"
MAX_DEPTH = 3  # folders below the dataset's, in which annotation files are looked for
MAX_FILES = 40  # JSON files of a folder that are looked at: labelme writes one for each image


class NoImagesError(UserError):
    """None of the images of an annotation file is there."""


def find(folder: Path) -> FoundDataset | None:
    """The COCO dataset in a folder, if there is one."""
    found = [path for path in _json_files(folder) if _is_coco(path)]
    files = [path for path in found if not path.stem.lower().startswith(KEYPOINTS)] or found
    by_split: dict[str, list[Path]] = {}
    for path in files:
        by_split.setdefault(_split_name(path, folder) or UNSPLIT, []).append(path)
    if not by_split:
        return None
    if "train" in by_split:
        by_split.pop(UNSPLIT, None)  # all.json beside train.json and val.json
    return named_files({name: _best(paths) for name, paths in by_split.items()}, folder)


def named_files(files: Mapping[str, Sequence[Path]], root: Path, image_dir: Path | None = None) -> FoundDataset:
    """The dataset of annotation files that are known, by split; images are looked for under ``root``."""
    splits = [_found_split(name, list(paths), root, image_dir) for name, paths in files.items()]
    return FoundDataset(_tool(next(iter(files.values()))[0]), tuple(splits))


def _found_split(name: str, paths: list[Path], root: Path, image_dir: Path | None) -> FoundSplit:
    def read() -> RawSplit:
        parts = _read_parts(name, paths, root, image_dir)
        if len(parts) == 1:
            return parts[0]
        if image := shared_image(parts):
            raise UserError(_several(name, paths, root, image))
        notes = [f"{len(paths)} annotation files read as one split: {_listed(paths, root)}"]
        return join(parts, root, notes)

    origin = paths[0] if len(paths) == 1 else Path(os.path.commonpath([path.parent for path in paths]))
    return FoundSplit(name, origin, read, lambda: paths)


def _read_parts(name: str, paths: list[Path], root: Path, image_dir: Path | None) -> list[RawSplit]:
    """The files of a split; where the images of one are absent, the error names another."""
    parts: dict[Path, RawSplit] = {}
    lost: NoImagesError | None = None
    for path in paths:
        try:
            parts[path] = _read(path, name, root, image_dir)
        except NoImagesError as error:
            lost = lost or error
    if lost and parts:
        option = f"--{'train' if name == UNSPLIT else name}_file"
        raise NoImagesError(f"{lost}, or leave that file out: {option} {os.path.relpath(next(iter(parts)), root)}")
    if lost:
        raise lost
    return list(parts.values())


def _json_files(folder: Path) -> Iterator[Path]:
    """JSON files near the top of a folder."""
    for parent, folders, names in os.walk(folder):
        deep = len(Path(parent).relative_to(folder).parts) >= MAX_DEPTH
        folders[:] = sorted(name for name in folders if not (deep or name[0] == "." or name in IGNORED_FOLDERS))
        found = [name for name in sorted(names) if name.lower().endswith(".json") and name[0] != "."]
        if len(found) > MAX_FILES:
            first = found[: MAX_FILES // 10]
            one_each = all(_is_coco(Path(parent, name)) for name in first)
            found = [name for name in found if _has_telling_name(name)] or (found if one_each else first)
        yield from (path for name in found if (path := Path(parent) / name).is_file())


def _has_telling_name(name: str) -> bool:
    stem = name.lower()
    return "coco" in stem or stem.startswith("instances") or "annotation" in stem or split_of(stem) is not None


def _is_coco(path: Path) -> bool:
    """Whether a file looks like annotations of COCO: by its ends, since it may hold hundreds of megabytes."""
    if path.stem.lower().startswith(OTHER_TASKS):
        return False
    ends = _ends(path)
    if dialect_of(ends) or other_json(ends):
        return False
    lists = set(LIST.findall(ends))
    whole = path.stat().st_size <= 2 * PEEK_BYTES
    telling = path.name == ROBOFLOW or path.stem.lower().startswith("instances")
    return telling or len(lists) == 2 or (len(lists) == 1 and not whole)


def _ends(path: Path) -> bytes:
    with open_regular(path) as file:
        head = file.read(PEEK_BYTES)
        if os.fstat(file.fileno()).st_size > 2 * PEEK_BYTES:
            file.seek(-PEEK_BYTES, os.SEEK_END)
        return (head + file.read(PEEK_BYTES)).replace(b"\0", b"")  # of UTF-16, the ASCII characters


def _split_name(path: Path, folder: Path) -> str | None:
    """The split that the file's name tells, or else the names of its folders, the nearest first."""
    names = [path.stem, *path.relative_to(folder).parts[-2::-1]]
    return next((split for name in names if (split := split_of(name))), None)


def _best(paths: list[Path]) -> list[Path]:
    """The files whose names tell most: those of a split that are equally likely are its parts, or versions of it."""

    def rank(path: Path) -> int:
        stem = path.stem.lower()
        return (path.name == ROBOFLOW) * 4 + stem.startswith("instances") * 2 + ("coco" in stem)

    best = max(map(rank, paths))
    return [path for path in paths if rank(path) == best]


def _listed(paths: list[Path], folder: Path) -> str:
    return ", ".join(os.path.relpath(path, folder) for path in paths[:5]) + (", ..." if len(paths) > 5 else "")


def _several(name: str, paths: list[Path], folder: Path, image: str) -> str:
    what = "none of which names its split" if name == UNSPLIT else f"for {name}"
    hint = "--train_file and --val_file" if name == UNSPLIT else f"--{name}_file"
    apart = len({path.parent for path in paths}) == len(paths)
    instead = f", or give one of their folders with --data_dir, such as {paths[0].parent}" if apart else ""
    listed = f"{what} ({_listed(paths, folder)}) list the same images, such as {image}"
    return f"{folder}: several annotation files {listed}; choose with {hint}{instead}"


def _tool(path: Path) -> str:
    """The format's name, after the tool that wrote it where that can be seen."""
    ends = _ends(path).lower()
    if path.name == ROBOFLOW or b"roboflow" in ends:
        return "Roboflow COCO"
    if b"label studio" in ends or path.name == "result.json":
        return "Label Studio COCO"
    return "CVAT COCO" if path.name == "instances_default.json" or b"cvat" in ends else "COCO"


def _read(path: Path, name: str, root: Path, image_dir: Path | None) -> RawSplit:
    content: dict[str, Any] = read_coco_json(path)
    content["images"] = [_with_file_name(entry) for entry in content["images"]]
    names = [entry["file_name"] for entry in content["images"] if isinstance(entry, dict) and _is_name(entry)]
    if image_dir is None and not path.is_relative_to(root):
        root = path.parent
    finder = ImageFinder(image_dir or root, None if name == UNSPLIT else name)
    folder, renamed, moved = locate(names, finder, path.parent)
    if not renamed:
        if not content["images"]:
            raise UserError(f"{path}: lists no images; the dataset needs some")
        if not names:
            raise UserError(f"{path}: none of its {len(content['images'])} images has a file_name; export them with it")
        raise NoImagesError(_no_images(path, names, finder))
    images = [
        {**entry, "file_name": renamed[entry["file_name"]]}
        if isinstance(entry, dict) and _is_name(entry) and entry["file_name"] in renamed
        else entry
        for entry in content["images"]
    ]
    notes = []
    if moved:
        first = f"{moved[0]!r} is {os.path.normpath(folder / renamed[moved[0]])}"
        notes.append(f"{len(moved)} images found by their name elsewhere than written, the first: {first}")
    return RawSplit({**content, "images": images}, folder, notes)


def _no_images(path: Path, names: list[str], finder: ImageFinder) -> str:
    """Why none of the images that a file names is found, and what to do."""
    packed = next((entry.name for entry in sorted(finder.folder.iterdir()) if entry.suffix.lower() in ARCHIVES), None)
    suffix, places = Path(names[0]).suffix.lower(), finder.places(names[0])
    what, hint = "is there", "give the folder that holds both, or name the images' with --image_dir"
    if packed:
        hint = f"unpack {packed}"
    elif places:
        what = "has a file name of its own there"
        hint = f"name the folder of the images with --image_dir, such as {places[0]}"
    elif suffix and suffix not in SUFFIXES:
        what, hint = "can be read", f"convert {suffix} files to {FORMAT_NAMES}"
    return f"{finder.folder}: none of the {len(names)} images of {path.name} {what} (the first: {names[0]}); {hint}"


def _with_file_name(entry: Any) -> Any:
    """An image's entry; LVIS names the file by its address only, the folder of which is the split's."""
    if isinstance(entry, dict) and not entry.get("file_name") and isinstance(entry.get("coco_url"), str):
        return {**entry, "file_name": "/".join(entry["coco_url"].split("/")[-2:])}
    return entry


def _is_name(entry: dict[str, Any]) -> bool:
    return isinstance(entry.get("file_name"), str) and bool(entry["file_name"])
