"""What a folder that no format claims looks like, and what its owner can do."""

import re
from collections.abc import Sequence
from pathlib import Path

from maskrcnn.data.coco.problems import BOXES_ONLY
from maskrcnn.data.formats.image_files import MASK_FOLDERS
from maskrcnn.data.formats.mask_pairs import LOSSY, find_pairs, kind_of
from maskrcnn.imaging.read import SUFFIXES
from maskrcnn.input_files import ARCHIVES, read_head

AS_PNG = "save each image's masks as a PNG whose values number the objects, masks/NAME.png for images/NAME.jpg"
AS_COCO = "export it from there as COCO, or convert it to COCO JSON"
OTHER_JSON = {  # marks of files that hold a list of annotations too, but not COCO's
    rb'"segments_info"': "COCO panoptic annotations; convert them with panopticapi's panoptic2detection_coco_format.py",
    rb'"(?:file_names|segmentations)"\s*:\s*\[': (
        "annotations of videos (YouTube-VIS); write those of each frame as COCO JSON"
    ),
    rb'"coordinates"\s*:\s*\{': f"CreateML annotations, {BOXES_ONLY.partition(';')[0]}; export as COCO segmentation",
    rb'"Labeled Data"|"data_row"': "a Labelbox export, whose images are elsewhere; convert it to COCO with its images",
    rb'"imgHeight"': (
        "polygons of Cityscapes' form; make instance masks of them with cityscapesscripts (json2instanceImg.py)"
    ),
    rb'"FeatureCollection"': "GeoJSON, whose coordinates may be those of a map; convert it to COCO in pixels",
}
TOOLS_JSON = {  # marks that COCO's files may have too
    rb'"label_hash"': f"an Encord export; {AS_COCO}",
    rb'"export_format_version"': f"a Hasty export; {AS_COCO}",
    rb'"itemId"|"coordinates"\s*:\s*\[\s*\[\s*\{': f"a Dataloop export; {AS_COCO}",
    rb'"className"': f"a SuperAnnotate export; {AS_COCO}",
    rb'"samples"\s*:\s*\[': "a FiftyOne dataset; export it from there as a COCODetectionDataset",
}
OTHER_XML = {
    rb"<track ": "CVAT's annotations of a video; export them as 'COCO 1.0' or 'CVAT for images 1.1', with images",
    rb"<ASAP_Annotations": "annotations of ASAP, of slides; write those of each image as COCO JSON, in pixels",
}
OTHER_CSV = {rb"(?i)^.*(?:xmin|x_min|bbox|left_x)": "a CSV file of boxes without masks; export it as COCO segmentation"}
OTHERS = ((".json", OTHER_JSON | TOOLS_JSON), (".xml", OTHER_XML), (".csv", OTHER_CSV))
NAMES_IN = {".json": rb'"([\w .-]{1,40})"\s*:', ".xml": rb"<(\w{1,40})"}  # the keys and elements of a file
OTHER_SUFFIXES = {
    ".mat": f"MATLAB files, as SBD has them; {AS_PNG} (scipy.io.loadmat reads them)",
    ".npy": f"NumPy arrays that are not one map an image; {AS_PNG}",
    ".npz": f"NumPy arrays; {AS_PNG}",
    ".parquet": f"Parquet files, as Hugging Face has them; {AS_PNG}",
    ".arrow": f"Arrow files, as Hugging Face has them; {AS_PNG}",
    ".h5": f"HDF5 files; {AS_PNG}",
    ".ndjson": "NDJSON; export it as COCO JSON",
    ".jsonl": "JSON Lines; write what they hold as COCO JSON",
    ".geojson": "GeoJSON, whose coordinates may be those of a map; convert it to COCO in pixels",
    ".tfrecord": "TFRecords that are not called train-... or val-..., as Roboflow has them; export COCO Segmentation",
}


def other_json(head: bytes) -> str | None:
    """What a JSON file is that may be taken for COCO's; None if it is nothing that is known."""
    return _known(OTHER_JSON, head)


def _known(marks: dict[bytes, str], head: bytes) -> str | None:
    return next((text for mark, text in marks.items() if re.search(mark, head)), None)


def explain(folder: Path, files: Sequence[Path]) -> str | None:
    """What the files of a folder look like and what to do; None if they tell nothing."""
    looks = (_by_content, _by_suffix, _by_masks, _by_names_in, _by_images)
    return next((text for look in looks if (text := look(folder, files))), None)


def _with_suffix(files: Sequence[Path], *suffixes: str) -> list[Path]:
    return [path for path in files if path.suffix.lower() in suffixes]


def _by_content(folder: Path, files: Sequence[Path]) -> str | None:
    for suffix, marks in OTHERS:
        for path in _with_suffix(files, suffix)[:5]:
            if text := _known(marks, read_head(path)):
                return f"{path.relative_to(folder)} looks like {text}"
    return None


def _by_suffix(folder: Path, files: Sequence[Path]) -> str | None:
    suffixes = {path.suffix.lower() for path in files}
    for suffix, text in OTHER_SUFFIXES.items():
        if suffix in suffixes:
            return f"it has {text}"
    if lines := next((path for path in _with_suffix(files, ".json") if _is_json_lines(path)), None):
        return f"{lines.relative_to(folder)} holds {OTHER_SUFFIXES['.jsonl']}"
    packed = _with_suffix(files, *ARCHIVES)
    return f"{packed[0].relative_to(folder)} is packed; unpack it" if packed else None


def _by_masks(folder: Path, files: Sequence[Path]) -> str | None:
    lossy = [path for path in _with_suffix(files, *LOSSY) if path.parent.name.lower() in MASK_FOLDERS]
    if lossy:
        only = "a mask as a JPEG file that is not black and white, whose values are not exact"
        return f"{lossy[0].relative_to(folder)} is {only}; {AS_PNG}"
    if sorts := find_pairs(folder):
        return f"the values of its masks ({', '.join(sorts)}) look like classes or shades, not like objects; {AS_PNG}"
    names = {path.parent.name for path in _with_suffix(files, *SUFFIXES)}
    others = sorted(name for name in names if kind_of(name) == "other")[:3]
    looks = f"the files in {', '.join(others)} look like classes, borders or shades, not like objects; {AS_PNG}"
    return looks if others else None


def _by_names_in(folder: Path, files: Sequence[Path]) -> str | None:
    for suffix, pattern in NAMES_IN.items():
        for path in _with_suffix(files, suffix)[:1]:
            names = list(dict.fromkeys(name.decode(errors="replace") for name in re.findall(pattern, read_head(path))))
            listed = f" (it begins with {', '.join(names[:5])})" if names else ""
            return f"{path.relative_to(folder)} is in an unknown format{listed}; convert it to COCO JSON"
    return None


def _is_json_lines(path: Path) -> bool:
    lines = [line.strip() for line in read_head(path).splitlines()[:2]]
    return len(lines) == 2 and all(line[:1] == b"{" and line[-1:] == b"}" for line in lines)


def _by_images(folder: Path, files: Sequence[Path]) -> str | None:
    if not _with_suffix(files, *SUFFIXES) or len(_with_suffix(files, ".txt")) > 3:
        return None
    draw = "draw a polygon around each object with labelme, CVAT, Label Studio or Roboflow"
    return (
        "there are only images; if their annotations lie elsewhere, give the folder that holds both; if some of them "
        f"are masks, {AS_PNG}; if there are none yet, {draw}"
    )
