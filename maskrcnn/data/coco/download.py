"""Downloads COCO 2017: resumed where it stopped, checked, unpacked, and removed again as archives."""

import errno
import os
import shutil
import zipfile
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from maskrcnn.errors import UserError
from maskrcnn.runtime.download import fetch
from maskrcnn.runtime.files import writing

BASE_URL = "http://images.cocodataset.org"


@dataclass(frozen=True)
class Archive:
    """A file of COCO's server."""

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
    with writing(out_dir, "free disk space or choose another folder, then start again"):
        out_dir.mkdir(parents=True, exist_ok=True)
        for name in ("annotations", *splits):
            archive = archives[name]
            if not (out_dir / archive.folder).is_dir():
                file = out_dir / Path(archive.path).name
                if not file.exists():
                    fetch(f"{base_url.rstrip('/')}/{archive.path}", file, md5=archive.md5, progress=progress)
                _unpack(file, out_dir, archive.folder, progress)
    return out_dir


def _unpack(file: Path, out_dir: Path, folder: str, progress: bool) -> None:
    """Unpacks ``folder`` of an archive, checking each entry's CRC, under a temporary name; then removes the archive."""
    temporary = out_dir / f".{folder}.partial"
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        with zipfile.ZipFile(file) as archive:
            members = [item for item in archive.infolist() if item.filename.startswith(f"{folder}/")]
            if sum(item.file_size for item in members) > shutil.disk_usage(out_dir).free:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            for item in tqdm(members, desc=f"unpacking {file.name}", unit=" files", disable=not progress):
                archive.extract(item, temporary)
            if not members:
                raise UserError(f"{file}: holds no folder {folder}; check the address it came from")
            os.replace(temporary / folder, out_dir / folder)
    except (OSError, UserError):
        raise
    except Exception as error:  # a damaged archive can fail in any way
        file.unlink()
        raise UserError(f"{file}: the archive is damaged ({error}) and was removed; start again") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    file.unlink()
