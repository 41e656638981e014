"""What the user names to be predicted: images, folders, patterns, addresses, videos, cameras, and lists of these."""

import glob
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from maskrcnn.errors import UserError
from maskrcnn.imaging.read import FORMAT_NAMES, list_images
from maskrcnn.input_files import MAX_DOCUMENT_BYTES
from maskrcnn.runtime.download import fetch, file_name

VIDEO_SUFFIXES = (".mp4", ".mov", ".m4v", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".ts", ".wmv")
STREAMS = ("rtsp://", "rtsps://", "rtmp://", "udp://", "tcp://", "srt://")
MAX_PATTERN = 1000  # characters: of each part, glob calls itself
DOWNLOADS = ("http://", "https://")


@dataclass(frozen=True)
class Inputs:
    """Images and videos, each as its path, address or camera number."""

    images: list[str]
    videos: list[str]

    @property
    def names(self) -> list[str]:
        """A name for the files of each image and video: the stem of its file, numbered where two are alike."""
        return unique_names([_stem(name) for name in (*self.images, *self.videos)])


def find_inputs(paths: Sequence[str | Path]) -> Inputs:
    """The images and videos among paths, without duplicates.

    Args:
        paths: image and video files, folders, patterns such as ``photos/*.jpg``, http(s) addresses, addresses of
            streams, numbers of cameras, and ``-`` for a list of these on standard input, one a line.

    Raises:
        UserError: a path that does not exist, a folder without images or videos, or no path at all.
    """
    found = list(dict.fromkeys(one for path in paths for one in _expand(str(path))))
    if not found:
        raise UserError("no image given; give images, videos, or folders of them")
    videos = [name for name in found if is_live(name) or _path(name).suffix.lower() in VIDEO_SUFFIXES]
    return Inputs([name for name in found if name not in set(videos)], videos)


def is_live(name: str) -> bool:
    """Whether an input is a camera or a stream, which ends when the user stops it."""
    return name.startswith(STREAMS) or (name.isdecimal() and not os.path.exists(name))


def local_file(name: str, folder: Path) -> Path:
    """The file of an input, downloaded to ``folder`` first if it is an address.

    Raises:
        UserError: the download failed.
    """
    if not name.startswith(DOWNLOADS):
        return Path(name)
    path = folder / f"{abs(hash(name))}_{file_name(name)[-100:]}"
    fetch(name, path, progress=False)
    return path


def _expand(name: str) -> Iterator[str]:
    if not name:
        raise UserError("an empty path was given; give images or folders of images")
    path = Path(name)
    if name == "-":
        for line in _standard_input():
            yield from _expand(line.strip()) if line.strip() not in ("", "-") else ()
    elif name.startswith(DOWNLOADS) or is_live(name):
        yield name
    elif os.path.isdir(path):  # unlike Path.is_dir, it knows no errors
        videos = (file for file in path.rglob("*") if file.suffix.lower() in VIDEO_SUFFIXES and file.is_file())
        found = [*list_images(path), *sorted(file for file in videos if not file.name.startswith("."))]
        if not found:
            raise UserError(f"{name}: no image in this folder; expected {FORMAT_NAMES} files, or videos")
        yield from map(str, found)
    elif os.path.exists(path):
        yield name
    elif len(name) <= MAX_PATTERN and (
        matches := sorted({*glob.glob(name, recursive=True)} - {name})
    ):  # a dead link matches itself
        for match in matches:
            yield from _expand(match)
    else:
        raise UserError(f"{name}: no such file or folder; give images or folders of images")


def _standard_input() -> list[str]:
    """The lines of standard input; bytes that are no text stay as they are in names of files."""
    data = sys.stdin.buffer.read(MAX_DOCUMENT_BYTES + 1) if sys.stdin else b""
    if len(data) > MAX_DOCUMENT_BYTES:
        raise UserError("standard input: more than 64 MB; give a list of images, one a line")
    return os.fsdecode(data).splitlines()


def _path(name: str) -> Path:
    return Path(file_name(name)) if name.startswith(DOWNLOADS) else Path(name)


def _stem(name: str) -> str:
    if name.isdecimal():
        return f"camera{name}"
    return "stream" if name.startswith(STREAMS) else _path(name).stem or "image"


def unique_names(stems: Sequence[str]) -> list[str]:
    """The stems, numbered where two would name the same file (on any file system)."""
    taken: set[str] = set()
    names: list[str] = []
    for stem in stems:
        name, number = stem, 1
        while name.lower() in taken:
            number += 1
            name = f"{stem}_{number}"
        taken.add(name.lower())
        names.append(name)
    return names
