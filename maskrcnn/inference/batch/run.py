"""Predicts the parts that are missing, or one shard of them; ``maskrcnn batch``.

The results of a part are a Parquet file: a row for each image, whose detections are COCO results.
"""

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tqdm import tqdm

from maskrcnn.errors import UserError
from maskrcnn.inference.batch.plan import Part, plan_parts, publish, write_plan
from maskrcnn.inference.predictor import Predictor
from maskrcnn.inference.results import open_images
from maskrcnn.inference.sources import open_source
from maskrcnn.inference.views import Views
from maskrcnn.input_files import as_text
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


def predict_part(predictor: Predictor, part: Part, out_dir: Path, views: Views) -> int:
    """Predicts a part and writes its file, which appears complete or not at all.

    Returns:
        The number of images that could not be read; their rows say why.

    Raises:
        UserError: pyarrow is not installed, or the folder cannot be written.
    """
    arrow, parquet = import_extra("pyarrow"), import_extra("pyarrow.parquet")
    rows: dict[int, dict[str, Any]] = {
        image_id: {"image_id": image_id, "file_name": as_text(file), "height": None, "width": None, "detections": []}
        for image_id, file in enumerate(part.files, start=part.first_id)
    }
    problems: dict[int, str] = {}
    with TemporaryDirectory() as folder:
        images = open_images(enumerate(part.files, start=part.first_id), Path(folder), views, problems)
        for image_id, detections in predictor.predict_images(images, views):
            height, width = detections.image_size
            results = detections.to_coco(image_id)
            rows[image_id] |= {"height": height, "width": width, "detections": results}
    content = BytesIO()
    listed = [{**row, "error": problems.get(image_id)} for image_id, row in rows.items()]
    table = arrow.Table.from_pylist(listed, schema=_schema(arrow))
    parquet.write_table(table, content, compression="zstd")
    publish(out_dir / part.file_name, content.getvalue())
    return len(problems)


def _schema(arrow: Any) -> Any:
    result = {
        "category_id": arrow.int64(),
        "category_name": arrow.string(),
        "bbox": arrow.list_(arrow.float64()),  # left, top, width, height, px
        "score": arrow.float64(),
        "segmentation": arrow.struct({"size": arrow.list_(arrow.int32()), "counts": arrow.string()}),
    }
    row = {
        "image_id": arrow.int64(),
        "file_name": arrow.string(),
        "height": arrow.int32(),
        "width": arrow.int32(),
        "error": arrow.string(),  # why the image could not be read, else null
        "detections": arrow.list_(arrow.struct(result)),
    }
    return arrow.schema(list(row.items()))
