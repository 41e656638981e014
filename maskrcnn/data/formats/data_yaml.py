"""YOLO's data.yaml: names of the classes, and where the splits are, often on another machine."""

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from maskrcnn.data.formats.folders import SPLIT_WORDS, split_of
from maskrcnn.errors import UserError
from maskrcnn.imaging.read import SUFFIXES
from maskrcnn.input_files import read_text

MAX_PATH = 4096  # characters
ID = re.compile("[0-9]{1,9}")
FIRST = ("data.yaml", "dataset.yaml", "data.yml")


@dataclass(frozen=True)
class DataYaml:
    """The parts of data.yaml that matter, its paths as they are on this machine."""

    path: Path
    names: dict[int, str]  # by class id
    splits: dict[str, list[Path]]  # folders, or text files that list images
    has_keypoints: bool  # labels then hold a box and keypoints a line


def read_data_yaml(folder: Path) -> DataYaml | None:
    """The YAML file in the folder, or in one of its own, that names classes; None if there is none.

    Raises:
        UserError: data.yaml is not YAML.
    """
    files = [path for pattern in ("*.y*ml", "*/*.y*ml") for path in sorted(folder.glob(pattern)) if path.is_file()]
    for path in sorted(files, key=lambda file: (file.parent != folder, file.name.lower() not in FIRST)):
        content = _parse(path)
        if isinstance(content, dict) and "names" in content:
            splits: dict[str, list[Path]] = {}
            for key in SPLIT_WORDS.keys() & content.keys():
                entries = content[key] if isinstance(content[key], list) else [content[key]]
                found = [_resolve(entry, key, folder, content) for entry in entries if isinstance(entry, str)]
                if any(found):
                    splits[SPLIT_WORDS[key]] = [place for place in found if place]
            if splits or path.parent == folder:
                return DataYaml(path, _names(content["names"]), splits, "kpt_shape" in content)
    return None


def _parse(path: Path) -> Any:
    """The file's content with all scalars as text, so that a class may be called ``no``."""
    try:
        text = read_text(path)
        try:
            return yaml.load(text, yaml.BaseLoader)
        except yaml.YAMLError:
            return yaml.load(text.replace("\\", "/"), yaml.BaseLoader)  # "C:\data" in quotes is not YAML
    except (yaml.YAMLError, RecursionError, ValueError, UserError) as error:
        if path.name.lower() not in FIRST:
            return None
        if isinstance(error, UserError):
            raise
        where = getattr(error, "problem_mark", None)
        line = f" (line {where.line + 1})" if where else ""
        raise UserError(f"{path}: not valid YAML{line}; fix it, or remove it to use images/ and labels/") from error


def _names(names: Any) -> dict[int, str]:
    """Names by class id, of a list or of a dict from ids to names."""
    entries = names.items() if isinstance(names, dict) else enumerate(names) if isinstance(names, list) else ()
    return {int(id): name for id, name in entries if isinstance(name, str) and ID.fullmatch(str(id))}


def _resolve(entry: str, key: str, folder: Path, content: dict[str, Any]) -> Path | None:
    """Where an entry's images are here: its last parts below the folder, else the path as it stands.

    A path that names the split is not taken for one that does not: ``/elsewhere/train/images`` is not ``images``.
    """
    entry, base = entry.replace("\\", "/").strip(), str(content.get("path", "")).replace("\\", "/").strip()
    if not 0 < len(entry) <= MAX_PATH:
        return None
    parts = [part for part in entry.split("/") if part not in ("", ".", "..")]
    roots = (folder, folder / base.rstrip("/").rpartition("/")[2])  # the dataset's folder may lie beside data.yaml
    below = [root.joinpath(*parts[start:]) for root in roots for start in range(len(parts))]
    if any(split_of(Path(part).stem) == SPLIT_WORDS[key] for part in parts):
        own = len(folder.parts)
        below = [path for path in below if any(split_of(Path(part).stem) for part in path.parts[own:])]
    for path in (*below, folder / base / entry):
        if path.suffix.lower() == ".txt" and os.path.isfile(path):
            return path
        if os.path.isdir(path):
            inner = path / "images"
            has_images = any(file.suffix.lower() in SUFFIXES for file in path.iterdir())
            return inner if inner.is_dir() and not has_images else path
    return None
