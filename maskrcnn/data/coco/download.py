"""Downloads COCO 2017: resumed where it stopped, checked, unpacked, and removed again as archives."""

import errno
import hashlib
import os
import shutil
import urllib.error
import urllib.request
import zipfile
from dataclasses import dataclass
from http.client import HTTPException, HTTPResponse
from pathlib import Path

from tqdm import tqdm

from maskrcnn.errors import UserError

BASE_URL = "http://images.cocodataset.org"
CHUNK = 1 << 20  # bytes
ATTEMPTS = 5  # in a row without a byte
TIMEOUT = 60  # seconds without an answer


@dataclass(frozen=True)
class Archive:
    path: str  # below the base URL
    md5: str | None  # None: the archive's own checksums must do
    folder: str  # that it unpacks to


ARCHIVES = {
    "annotations": Archive(
        "annotations/annotations_trainval2017.zip", "f4bbac642086de4f52a3fdda2de5fa2c", "annotations"
    ),
    "train": Archive("zips/train2017.zip", "cced6f7f71b7629ddf16f17bbcfab6b2", "train2017"),
    "val": Archive("zips/val2017.zip", "442b8da7639aecaf257c1dceb8ba8c80", "val2017"),
}


def download_coco(
    out_dir: str | Path,
    *,
    base_url: str = BASE_URL,
    splits: tuple[str, ...] = ("train", "val"),
    archives: dict[str, Archive] = ARCHIVES,
    progress: bool = True,
) -> Path:
    """Fetches the annotations and the images of ``splits`` into ``out_dir``; what is there already is left alone.

    Raises:
        UserError: an unknown split, the server or the disk failed, or an archive is damaged.
    """
    out_dir = Path(out_dir)
    for split in splits:
        if split not in archives:
            raise UserError(f"unknown split {split!r} of COCO; choose from train, val")
    try:
        out_dir.mkdir(parents=True, exist_ok=True)
        for name in ("annotations", *splits):
            archive = archives[name]
            if not (out_dir / archive.folder).is_dir():
                file = out_dir / Path(archive.path).name
                if not file.exists():
                    fetch(f"{base_url.rstrip('/')}/{archive.path}", file, md5=archive.md5, progress=progress)
                _unpack(file, out_dir, archive.folder, progress)
    except OSError as error:
        hint = "free some space" if error.errno == errno.ENOSPC else "choose a folder that can be written"
        raise UserError(
            f"{out_dir}: cannot be written ({error.strerror or error}); {hint}, then start again"
        ) from error
    return out_dir


def fetch(url: str, path: Path, *, md5: str | None = None, sha256: str | None = None, progress: bool = True) -> None:
    """Downloads ``url`` to ``path``, by way of ``path.partial``, from which a later call resumes.

    Args:
        url: of the file.
        path: gets it.
        md5, sha256: first hexadecimal digits of its checksum, or all of them.
        progress: whether to show a bar.

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
            reason = "the connection was cut"
        except urllib.error.HTTPError as error:
            if error.code < 500:
                raise UserError(f"{url}: the server answers {error.code} {error.reason}; check the address") from error
            reason = f"the server answers {error.code} {error.reason}"
        except (urllib.error.URLError, HTTPException, ConnectionError, TimeoutError) as error:
            reason = str(getattr(error, "reason", error))
        size = partial.stat().st_size if partial.exists() else 0
        failures, before = (failures + 1 if size == before else 1), size
        if failures >= ATTEMPTS or (size == 0 and "refused" in reason):
            raise UserError(f"{url}: download failed ({reason}); start again to go on where it stopped")
    for algorithm, expected in (("md5", md5), ("sha256", sha256)):
        if expected is not None and not _digest(partial, algorithm).startswith(expected):
            partial.unlink()
            title = algorithm.upper()
            raise UserError(f"{url}: the download is damaged ({title} differs) and was removed; start again")
    os.replace(partial, path)


def _fetch_rest(url: str, partial: Path, progress: bool) -> bool:
    """Appends what is missing; True if the file is whole then."""
    have = partial.stat().st_size if partial.exists() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    try:
        response = urllib.request.urlopen(request, timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        if error.code != 416 or not have:
            raise
        total = error.headers.get("Content-Range", "").rpartition("/")[2]
        if total == str(have):  # nothing is missing
            return True
        partial.unlink()  # longer than the file: not ours
        return False
    with response:
        resumed = response.status == 206
        have = have if resumed else 0
        length = response.headers.get("Content-Length")
        total = have + int(length) if length is not None else None
        if total is not None and total - have > shutil.disk_usage(partial.parent).free:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        with partial.open("ab" if resumed else "wb") as file:
            have += _copy(response, file, tqdm_options(url, have, total, progress))
    return total is None or have == total


def tqdm_options(url: str, have: int, total: int | None, progress: bool) -> dict:
    name = url.rpartition("/")[2]
    return {"desc": name, "initial": have, "total": total, "unit": "B", "unit_scale": True, "disable": not progress}


def _copy(response: HTTPResponse, file, options: dict) -> int:
    """Bytes copied until the end or until the connection breaks."""
    copied = 0
    with tqdm(**options) as bar:
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


def _unpack(file: Path, out_dir: Path, folder: str, progress: bool) -> None:
    """Unpacks ``folder`` of an archive, checking each entry's CRC, under a temporary name; then removes the archive."""
    temporary = out_dir / f".{folder}.partial"
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        with zipfile.ZipFile(file) as archive:
            members = [name for name in archive.namelist() if name.startswith(f"{folder}/")]
            for name in tqdm(members, desc=f"unpacking {file.name}", unit=" files", disable=not progress):
                archive.extract(name, temporary)
    except (zipfile.BadZipFile, EOFError) as error:
        shutil.rmtree(temporary, ignore_errors=True)
        file.unlink()
        raise UserError(f"{file}: the archive is damaged ({error}) and was removed; start again") from error
    if not members:
        raise UserError(f"{file}: holds no folder {folder}; check the address it came from")
    os.replace(temporary / folder, out_dir / folder)
    shutil.rmtree(temporary)
    file.unlink()
