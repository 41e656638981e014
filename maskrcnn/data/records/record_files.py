"""TFRecord files of a folder, by split."""

import re
from pathlib import Path

from maskrcnn.errors import UserError

PATTERNS = ("{name}*.tfrecord", "{name}*.tfrecord-*-of-*", "{name}*.record-*-of-*")  # "val" begins "valid" too
SHARD = re.compile(r"-(\d+)-of-(\d+)(?:\.\w+)?$")


def find_record_files(folder: Path) -> dict[str, tuple[Path, ...]]:
    """The TFRecord files of each split that has any, sorted.

    Raises:
        UserError: shards are missing.
    """
    found = {}
    for name in ("train", "val", "test"):
        files = sorted({file for pattern in PATTERNS for file in folder.glob(pattern.format(name=name))})
        _check_shards(folder, files)
        if files:
            found[name] = tuple(files)
    return found


def _check_shards(folder: Path, files: list[Path]) -> None:
    shards = [match for file in files if (match := SHARD.search(file.name))]
    for match in shards:
        stem, total = match.string[: match.start()], int(match[2])
        present = {int(other[1]) for other in shards if other.string.startswith(f"{stem}-") and int(other[2]) == total}
        if missing := set(range(total)) - present:
            listed = ", ".join(map(str, sorted(missing)[:5]))
            raise UserError(f"{folder}: shards {listed} of {total} of {stem!r} are missing; copy or convert again")
