"""What ``maskrcnn data convert`` and ``check`` do: all splits of a folder at once."""

from pathlib import Path

from tqdm import tqdm

from maskrcnn.data.coco.annotations import Fault
from maskrcnn.data.records.convert import Converted, convert_coco
from maskrcnn.data.records.prepare import check_coco
from maskrcnn.data.records.tfrecord import RecordReader, record_spans
from maskrcnn.data.records.third_party import check_record
from maskrcnn.data.splits import NoSplitError, find_coco, find_records, writable_folder
from maskrcnn.errors import UserError

SPLITS = ("train", "val")


def convert_folder(
    data_dir: str | Path, out_dir: str | Path | None = None, *, skip_bad: bool = False, progress: bool = True
) -> dict[str, Converted]:
    """Converts the splits of a COCO folder to TFRecords in ``out_dir`` (``data_dir/tfrecords`` if None), by name.

    Raises:
        UserError: no split found, faults, or an unwritable folder.
    """
    data_dir = _folder(data_dir)
    target = Path(out_dir) if out_dir is not None else writable_folder(data_dir, None)
    if target is None:
        raise UserError(f"{data_dir}: cannot be written; choose another folder with --out_dir")
    sources = _coco_splits(data_dir)
    return {
        name: convert_coco(*source, target, name, skip_bad=skip_bad, progress=progress)
        for name, source in sources.items()
    }


def check_folder(data_dir: str | Path, *, progress: bool = True) -> list[Fault]:
    """All faults of the splits in a folder, COCO or TFRecords.

    Raises:
        UserError: no split found, or an annotation file that is not COCO JSON.
    """
    data_dir = _folder(data_dir)
    faults: list[Fault] = []
    records = {name: find_records(data_dir, name) for name in SPLITS}
    if any(records.values()):
        for files in records.values():
            faults += _check_records(files, progress)
        return faults
    for annotation_file, image_dir in _coco_splits(data_dir).values():
        faults += check_coco(annotation_file, image_dir, progress=progress)
    return faults


def _folder(data_dir: str | Path) -> Path:
    if not Path(data_dir).is_dir():
        raise UserError(f"{data_dir}: no such folder; give a folder of COCO data")
    return Path(data_dir)


def _coco_splits(data_dir: Path) -> dict[str, tuple[Path, Path]]:
    """Annotation file and image folder of each split that is there."""
    found, missing = {}, []
    for name in SPLITS:
        try:
            found[name] = find_coco(data_dir, name)
        except NoSplitError as error:
            missing.append(error)
    if not found:
        raise missing[0]
    return found


def _check_records(files: tuple[Path, ...], progress: bool) -> list[Fault]:
    faults = []
    for path in tqdm(files, desc="checking records", unit=" files", disable=not progress):
        try:
            spans = record_spans((path,))
        except UserError as error:
            faults.append(Fault(path, "file", str(error).removeprefix(f"{path}: ").partition(";")[0], "copy it again"))
            continue
        reader = RecordReader((path,))
        for number, span in enumerate(spans):
            problem = check_record(reader.read(span))
            if problem:
                faults.append(Fault(path, f"record {number}", problem, "write it again"))
    return faults
