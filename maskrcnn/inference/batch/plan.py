"""The plan of a batch prediction: which images make which part, and what they are predicted with.

It is a function of the command alone, so that every process makes the same plan and none has to talk to another. A
digest of it lies beside the results, so that no folder mixes those of two plans.
"""

import hashlib
import json
import os
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from maskrcnn.errors import UserError
from maskrcnn.inference.inputs import find_inputs
from maskrcnn.inference.views import Views
from maskrcnn.input_files import open_regular, read_json
from maskrcnn.runtime.files import writing

PLAN_FILE = "_plan.json"  # readers of Parquet folders ignore names that begin with an underscore


@dataclass(frozen=True)
class Part:
    """Images whose results are one file."""

    number: int
    first_id: int  # image id of the first one; those of all parts count from 1
    files: list[str]

    @property
    def file_name(self) -> str:
        """The name of the part's file."""
        return f"part-{self.number:06d}.parquet"


def plan_parts(paths: Sequence[str | Path], part_images: int) -> list[Part]:
    """Parts of ``part_images`` images, the last one smaller; see `find_inputs`.

    Raises:
        UserError: no image, a path that does not exist, or a video.
    """
    inputs = find_inputs(paths)
    if inputs.videos:
        raise UserError(f"{inputs.videos[0]}: a video; give it to `maskrcnn infer`, and images to `maskrcnn batch`")
    files = inputs.images
    starts = range(0, len(files), part_images)
    return [Part(number, start + 1, files[start : start + part_images]) for number, start in enumerate(starts)]


def write_plan(
    out_dir: Path, parts: Sequence[Part], model: Sequence[Path], settings: Mapping[str, Any], views: Views
) -> None:
    """Writes the plan, or compares it with the one that is there.

    Args:
        out_dir: folder of the results.
        parts: all parts.
        model: the model's files.
        settings: config fields that replace the model's own.
        views: of each image.

    Raises:
        UserError: the folder has the results of another plan, or cannot be written.
    """
    names = hashlib.sha256()
    for part in parts:
        for name in part.files:
            names.update(name.encode("utf-8", "surrogateescape") + b"\0")
    plan = {
        "images": sum(len(part.files) for part in parts),
        "parts": len(parts),
        "images_sha256": names.hexdigest(),
        "model_sha256": _fingerprint(model),
        "settings": {name: str(value) for name, value in sorted(settings.items())},
        "views": asdict(views),
    }
    path = out_dir / PLAN_FILE
    if not path.exists():
        publish(path, json.dumps(plan, indent=1).encode())
    before = read_json(path, "the plan of a batch prediction")
    changed = [name for name, value in plan.items() if not isinstance(before, dict) or before.get(name) != value]
    if changed:
        different = " and ".join(dict.fromkeys(name.removesuffix("_sha256") for name in changed))
        raise UserError(f"{path}: the results here are of another plan (different {different}); give another --out_dir")


def publish(path: Path, content: bytes) -> None:
    """Makes a file appear with its whole content, also if processes of other machines write the same one.

    Raises:
        UserError: the folder cannot be written.
    """
    temporary = path.with_name(f".{uuid.uuid4().hex}.{path.name}")
    with writing(path, "free disk space or choose another --out_dir"):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with temporary.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)


def _fingerprint(files: Sequence[Path]) -> str:
    digest = hashlib.sha256()
    for path in files:
        with open_regular(path) as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()
