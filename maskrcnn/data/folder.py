"""What ``maskrcnn data convert`` does: all splits of a folder at once, to records or to another format."""

import os
from pathlib import Path

from maskrcnn.config import DataConfig
from maskrcnn.data.coco.annotations import warn
from maskrcnn.data.coco.problems import refuse
from maskrcnn.data.export import export_coco, export_yolo, write_yolo_index
from maskrcnn.data.splits import find_dataset
from maskrcnn.errors import UserError
from maskrcnn.runtime.files import writing

FORMATS = ("tfrecord", "coco", "yolo")
EXPORTERS = {"coco": export_coco, "yolo": export_yolo}


def convert_folder(
    data_dir: str | Path,
    out_dir: str | Path | None = None,
    *,
    to: str = "tfrecord",
    options: DataConfig | None = None,
    progress: bool = True,
) -> dict[str, int]:
    """Converts all splits of a dataset; returns how many images each has.

    Args:
        data_dir: of the dataset.
        out_dir: gets the result; None: ``data_dir/tfrecords``, for TFRecords only.
        to: "tfrecord", "coco" or "yolo".
        options: how the dataset is read.
        progress: whether to show a bar.

    Raises:
        UserError: no dataset, more problems than are tolerated, or an unwritable folder.
    """
    options = options or DataConfig()
    dataset = find_dataset(data_dir, options)
    if dataset.records:
        raise UserError(f"{data_dir}: holds TFRecords already; convert the dataset that they were made of")
    if to == "tfrecord":
        target = Path(out_dir) if out_dir is not None else None
        dataset.convert(*dataset.names, out_dir=target, progress=progress)
        return {name: dataset.open(name, out_dir=target).num_examples for name in dataset.names}
    if out_dir is None:
        raise UserError(f"--to {to}: give a folder for the result with --out_dir")
    if os.path.isdir(out_dir) and os.path.samefile(out_dir, data_dir):
        raise UserError(f"{out_dir}: the result would replace the dataset; choose another --out_dir")
    splits = dataset.read(dataset.names).splits
    for name, split in splits.items():
        refuse(split.problems, split.totals, skip_bad=options.skip_bad)
        if not (name == "val" and dataset.held_out):  # whose problems are train's
            warn(split.problems)
    export = EXPORTERS[to]
    with writing(out_dir):
        counts = {
            name: export(split, name, Path(out_dir), skip_bad=options.skip_bad, progress=progress)
            for name, split in splits.items()
        }
        if to == "yolo":
            write_yolo_index(splits, Path(out_dir))
    return counts
