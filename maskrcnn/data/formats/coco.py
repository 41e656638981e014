"""COCO JSON in the layouts in which tools export it: COCO 2017's, Roboflow's, CVAT's, Label Studio's, or one file of
any name beside its images; and a split whose annotations lie in several files, for each task, batch or image."""

import filecmp
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from maskrcnn.data.coco.annotations import read_coco_json
from maskrcnn.data.coco.ids import Key, image_key, key_of
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
TELLING = re.compile("^instances|coco|annotation", re.IGNORECASE)  # in the name of a file
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
        names = (path.stem, *path.relative_to(folder).parts[-2::-1])  # of the file, then of its folders, nearest first
        split = next((split for name in names if (split := split_of(name))), UNSPLIT)
        by_split.setdefault(split, []).append(path)
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
        if image := _shared_image(parts):
            raise UserError(_several(name, paths, root, image))
        notes = [f"{len(paths)} annotation files read as one split: {_listed(paths, root)}"]
        return _join(parts, root, notes)

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
    for parent, folders, names in os.walk(folder):
        deep = len(Path(parent).relative_to(folder).parts) >= MAX_DEPTH
        folders[:] = sorted(name for name in folders if not (deep or name[0] == "." or name in IGNORED_FOLDERS))
        found = [name for name in sorted(names) if name.lower().endswith(".json") and name[0] != "."]
        if len(found) > MAX_FILES:
            first = found[: MAX_FILES // 10]
            one_each = all(_is_coco(Path(parent, name)) for name in first)
            telling = [name for name in found if TELLING.search(name) or split_of(name)]
            found = telling or (found if one_each else first)
        yield from (path for name in found if (path := Path(parent) / name).is_file())


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
    for entry in (entry for entry in content["images"] if isinstance(entry, dict)):
        if not entry.get("file_name") and isinstance(entry.get("coco_url"), str):  # LVIS; the folder is the split's
            entry["file_name"] = "/".join(entry["coco_url"].split("/")[-2:])
    names = [file_name for entry in content["images"] if (file_name := _name(entry))]
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
    for entry in content["images"]:
        if _name(entry) in renamed:
            entry["file_name"] = renamed[entry["file_name"]]
    notes = []
    if moved:
        first = f"{moved[0]!r} is {os.path.normpath(folder / renamed[moved[0]])}"
        notes.append(f"{len(moved)} images found by their name elsewhere than written, the first: {first}")
    return RawSplit(content, folder, notes)


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


def _name(entry: Any) -> str | None:
    name = entry.get("file_name") if isinstance(entry, dict) else None
    return name if isinstance(name, str) and name else None


def _shared_image(parts: Sequence[RawSplit]) -> str | None:
    """An image that two parts list, or copies of it: these are versions of a split, not parts of it."""
    seen: dict[tuple[str, int], Path] = {}
    for part in parts:
        files = [path for entry in _named_images(part) if (path := part.image_dir / entry["file_name"]).is_file()]
        own = {(path.name, path.stat().st_size): path for path in files}
        for key in sorted(own.keys() & seen.keys()):
            if filecmp.cmp(own[key], seen[key], shallow=False):
                return key[0]
        seen |= own
    return None


def _join(parts: Sequence[RawSplit], root: Path, notes: list[str]) -> RawSplit:
    """The parts as one, with names relative to ``root``.

    Images and annotations are numbered anew, and classes of one name are one class.
    """
    joined: dict[str, list[dict[str, Any]]] = {"images": [], "annotations": [], "categories": []}
    class_ids: dict[str, Any] = {}
    for part in parts:
        images: dict[Key | None, int] = {}
        for entry in _named_images(part):
            images[image_key(entry)] = number = len(joined["images"]) + 1
            name = os.path.relpath(part.image_dir / entry["file_name"], root).replace(os.sep, "/")
            joined["images"].append({**entry, "id": number, "file_name": name})
        classes: dict[Key | None, Key] = {}
        for entry in _dicts(part, "categories"):
            name, key = str(entry.get("name")), key_of(entry.get("id"))
            if name not in class_ids:
                taken = {None, *class_ids.values()}
                class_ids[name] = next(id for id in (key, *range(1, len(taken) + 1)) if id not in taken)
                joined["categories"].append({**entry, "id": class_ids[name]})
            classes[key] = class_ids[name]
        for entry in _dicts(part, "annotations"):
            image_id, category_id = key_of(entry.get("image_id")), key_of(entry.get("category_id"))
            own = {"image_id": images.get(image_id), "category_id": classes.get(category_id)}
            joined["annotations"].append({**entry, **own, "id": len(joined["annotations"]) + 1})
    return RawSplit(joined, root, [*notes, *(note for part in parts for note in part.notes)])


def _named_images(part: RawSplit) -> Iterator[dict[str, Any]]:
    return (entry for entry in _dicts(part, "images") if isinstance(entry.get("file_name"), str))


def _dicts(part: RawSplit, name: str) -> Iterator[dict[str, Any]]:
    return (entry for entry in part.content[name] if isinstance(entry, dict))
