"""Downloads files: interrupted downloads resume, checksums are verified, and a per-user cache keeps the results."""

import errno
import hashlib
import os
import shutil
import socket
import sys
import urllib.error
import urllib.parse
import urllib.request
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from typing import IO, Any

from tqdm import tqdm

from maskrcnn.errors import UserError
from maskrcnn.runtime.files import locked

CHUNK = 1 << 20  # bytes
ATTEMPTS = 5  # in a row without receiving a byte
TIMEOUT = 60  # seconds without an answer
HUB = "https://huggingface.co"


def cache_dir() -> Path:
    """The user's cache folder: ``MASKRCNN_CACHE``, or ``maskrcnn`` in the place that the system has for caches."""
    if own := os.environ.get("MASKRCNN_CACHE"):
        return Path(own)
    if sys.platform == "win32":
        parent = os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local"
    else:
        parent = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(parent) / "maskrcnn"


def resolve_url(text: str) -> str | None:
    """The address that ``text`` stands for: an http(s) URL, or ``hf://OWNER/REPOSITORY[@REVISION]/FILE``; else None.

    Raises:
        UserError: an ``hf://`` address without owner, repository and file.
    """
    if text.startswith(("http://", "https://")):
        return text
    if not text.startswith("hf://"):
        return None
    parts = text.removeprefix("hf://").split("/", 2)
    if len(parts) < 3 or not all(parts):
        raise UserError(f"{text}: expected hf://OWNER/REPOSITORY/FILE")
    owner, repository, file = parts
    repository, _, revision = repository.partition("@")
    return f"{HUB}/{owner}/{repository}/resolve/{revision or 'main'}/{urllib.parse.quote(file)}"


def file_name(url: str) -> str:
    """The name of the file at a URL, without the query."""
    return urllib.parse.unquote(urllib.parse.urlsplit(url).path).rpartition("/")[2]


def fetch_once(
    url: str, path: Path, *, md5: str | None = None, sha256: str | None = None, progress: bool = True
) -> None:
    """Downloads ``url`` to ``path`` unless it is there; of several processes, one downloads and the others wait.

    Raises:
        UserError: see `fetch`; or the folder cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with locked(path.parent, wait=True):
            if not path.exists():
                fetch(url, path, md5=md5, sha256=sha256, progress=progress)
    except OSError as error:
        raise UserError(
            f"{path}: cannot be written ({error.strerror or error}); free disk space, or name another folder in the "
            "environment variable MASKRCNN_CACHE"
        ) from error


def fetch(url: str, path: Path, *, md5: str | None = None, sha256: str | None = None, progress: bool = True) -> None:
    """Downloads ``url`` to ``path`` through ``path.partial``, from which a later call resumes.

    Args:
        url: address of the file.
        path: the file to write.
        md5: the checksum in hexadecimal, or its first digits.
        sha256: the checksum in hexadecimal, or its first digits.
        progress: whether to show a progress bar (on a terminal).

    Raises:
        UserError: the server refuses or keeps failing, or the file is damaged.
        OSError: the disk failed.
    """
    partial = path.with_name(path.name + ".partial")
    failures, before = 0, -1
    while True:
        try:
            if _fetch_rest(url, partial, progress):
                break
            reason, unreachable = "the connection was cut", False
        except urllib.error.HTTPError as error:
            reason, unreachable = f"the server answers {error.code} {error.reason}", False
            if error.code < 500:
                raise UserError(f"{url}: {reason}; check the address") from error
        except (urllib.error.URLError, HTTPException, ConnectionError, TimeoutError) as error:
            cause = getattr(error, "reason", error)
            reason, unreachable = str(cause), isinstance(cause, ConnectionRefusedError | socket.gaierror)
        size = partial.stat().st_size if partial.exists() else 0
        failures, before = (failures + 1 if size == before else 1), size
        if unreachable and not size:
            raise UserError(f"{url}: cannot be reached ({reason}); check the network connection")
        if failures >= ATTEMPTS:
            raise UserError(f"{url}: download failed ({reason}); run the command again to resume it")
    for algorithm, expected in (("md5", md5), ("sha256", sha256)):
        if expected is not None and not _digest(partial, algorithm).startswith(expected):
            partial.unlink()
            raise UserError(
                f"{url}: the download is damaged ({algorithm.upper()} differs) and was removed; run the command again"
            )
    os.replace(partial, path)


def _fetch_rest(url: str, partial: Path, progress: bool) -> bool:
    """Appends what is missing; True if the file is complete then."""
    have = partial.stat().st_size if partial.exists() else 0
    headers = {"User-Agent": "maskrcnn"} | ({"Range": f"bytes={have}-"} if have else {})
    try:
        response = urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        if error.code != 416 or not have:
            raise
        total = error.headers.get("Content-Range", "").rpartition("/")[2]
        if total == str(have):  # nothing is missing
            return True
        partial.unlink()  # longer than the file: another file's
        return False
    with response:
        resumed = response.status == 206
        have = have if resumed else 0
        length = response.headers.get("Content-Length")
        total = have + int(length) if length is not None else None
        if total is not None and total - have > shutil.disk_usage(partial.parent).free:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        bar = tqdm(
            desc=file_name(url),
            initial=have,
            total=total,
            unit="B",
            unit_scale=True,
            disable=None if progress else True,
        )
        with partial.open("ab" if resumed else "wb") as file, bar:
            have += _copy(response, file, bar)
    return total is None or have == total


def _copy(response: HTTPResponse, file: IO[bytes], bar: Any) -> int:
    """Copies until the end or until the connection breaks, and returns the number of bytes."""
    copied = 0
    while True:
        try:
            chunk = response.read(CHUNK)
        except (HTTPException, ConnectionError, TimeoutError):
            return copied
        if not chunk:
            return copied
        file.write(chunk)
        copied += len(chunk)
        bar.update(len(chunk))


def _digest(path: Path, algorithm: str) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, algorithm).hexdigest()
