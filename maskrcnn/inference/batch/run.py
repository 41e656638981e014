"""Predicts the parts that are missing, or one shard of them; ``maskrcnn batch``."""

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tqdm import tqdm

from maskrcnn.errors import UserError
from maskrcnn.inference.batch.part_file import predict_part
from maskrcnn.inference.batch.plan import Part, plan_parts, write_plan
from maskrcnn.inference.predictor import Predictor
from maskrcnn.inference.sources import open_source
from maskrcnn.inference.views import Views
from maskrcnn.runtime.extras import import_extra


@dataclass(frozen=True)
class BatchOptions:
    """How the images are divided and predicted."""

    part_images: int = 1000  # images of a file
    shard: tuple[int, int] = (0, 1)  # this process predicts every N-th part, from this one on
    views: Views = field(default_factory=Views)

    def __post_init__(self) -> None:
        index, count = self.shard
        if not 0 <= index < count:
            raise UserError(f"--shard {index}/{count}: shards of {count} are numbered from 0 to {count - 1}")
        if self.part_images < 1:
            raise UserError(f"--part_images {self.part_images}: a part has at least 1 image")


@dataclass(frozen=True)
class BatchResult:
    """What is there after a batch prediction."""

    images: int  # that were predicted now
    unreadable: int  # of them
    parts: int  # of this shard
    missing: int  # parts of other shards that are not there yet


def infer_batch(
    model: str | Path,
    out_dir: str | Path,
    paths: Sequence[str | Path],
    *,
    settings: Mapping[str, Any] | None = None,
    options: BatchOptions | None = None,
) -> BatchResult:
    """Predicts images into Parquet files, of which those that are there already are kept.

    A file is written to another name and renamed, so that each image has exactly one row, whichever processes are
    killed and started again, with the same arguments.

    Args:
        model: see `maskrcnn.load`.
        out_dir: folder for the files, which all shards share.
        paths: images and folders of them, see `find_inputs`.
        settings: dotted config fields that replace the saved ones.
        options: how the images are divided and predicted.

    Raises:
        UserError: no model, no image, an extra that is missing, or a folder with the results of another plan.
    """
    options, out_dir, settings = options or BatchOptions(), Path(out_dir), settings or {}
    import_extra("pyarrow")
    source = open_source(model)
    config = source.config.override(settings)
    parts = plan_parts(paths, options.part_images)
    write_plan(out_dir, parts, source.files, settings, options.views)
    index, count = options.shard
    own = parts[index::count]
    missing = [part for part in own if not (out_dir / part.file_name).exists()]
    images = sum(len(part.files) for part in missing)
    unreadable = _predict(source.build(config), missing, out_dir, options.views) if missing else 0
    left = sum(not (out_dir / part.file_name).exists() for part in parts)
    if not left:
        _remove_temporary(out_dir)
    return BatchResult(images, unreadable, len(own), left)


def _predict(predictor: Predictor, parts: Sequence[Part], out_dir: Path, views: Views) -> int:
    """Writes the files of the parts; returns the number of images that could not be read."""
    unreadable = 0
    with tqdm(total=sum(len(part.files) for part in parts), desc="predicting", unit="image") as bar:
        for part in parts:
            unreadable += predict_part(predictor, part, out_dir, views)
            bar.update(len(part.files))
    return unreadable


def _remove_temporary(out_dir: Path) -> None:
    """Removes what killed processes left; only once all parts are there, since others may be writing before."""
    for path in out_dir.glob(".*.part-*.parquet"):
        with contextlib.suppress(OSError):
            path.unlink()
