"""The results of a part as a Parquet file: a row for each image, whose detections are COCO results."""

from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from maskrcnn.errors import UserError
from maskrcnn.imaging.large_image import Pixels
from maskrcnn.inference.batch.plan import Part, publish
from maskrcnn.inference.inputs import local_file
from maskrcnn.inference.predictor import Predictor, open_source
from maskrcnn.inference.views import Views
from maskrcnn.input_files import as_text
from maskrcnn.runtime.extras import import_extra


def predict_part(predictor: Predictor, part: Part, out_dir: Path, views: Views) -> int:
    """Predicts a part and writes its file, which appears complete or not at all.

    Returns:
        The number of images that could not be read; their rows say why.

    Raises:
        UserError: pyarrow is not installed, or the folder cannot be written.
    """
    arrow, parquet = import_extra("pyarrow"), import_extra("pyarrow.parquet")
    rows: dict[int, dict[str, Any]] = {
        image_id: {"image_id": image_id, "file_name": file, "height": None, "width": None, "error": None}
        | {"detections": []}
        for image_id, file in enumerate(part.files, start=part.first_id)
    }
    with TemporaryDirectory() as folder:

        def read() -> Iterator[tuple[int, Pixels]]:
            for image_id, row in rows.items():
                try:
                    image = open_source(local_file(row["file_name"], Path(folder)), tiled=views.tile is not None)
                except UserError as error:
                    row["error"] = str(error)
                    continue
                yield image_id, image

        for image_id, detections in predictor.predict_images(read(), views):
            height, width = detections.image_size
            results = detections.to_coco(image_id)
            rows[image_id] |= {"height": height, "width": width, "detections": results}
    for row in rows.values():
        row["file_name"] = as_text(row["file_name"])
    content = BytesIO()
    table = arrow.Table.from_pylist(list(rows.values()), schema=_schema(arrow))
    parquet.write_table(table, content, compression="zstd")
    publish(out_dir / part.file_name, content.getvalue())
    return sum(row["error"] is not None for row in rows.values())


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
