"""Pascal VOC: masks in SegmentationObject (ids) and SegmentationClass, or XML with boxes (Roboflow's with polygons).

hotcoco's ``from_voc`` reads boxes in a folder called Annotations only, and no masks, hence a reader of our own.
"""

import functools
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from maskrcnn.data.formats.content import (
    COLOR,
    OBJECT,
    Content,
    Size,
    encode_ids,
    map_in_threads,
    mask_utils,
    read_ids,
    read_size,
)
from maskrcnn.data.formats.folders import by_split, child, walk
from maskrcnn.data.formats.found_dataset import SPLIT_NAMES, UNSPLIT, FoundDataset, RawSplit, found_dataset
from maskrcnn.data.formats.image_files import ImageFinder
from maskrcnn.data.formats.voc_names import BACKGROUND, VOC_NAMES, VOID, class_indices, listed_names, palette_color
from maskrcnn.data.formats.voc_xml import add_objects, is_voc_xml, parse_xml
from maskrcnn.errors import UserError
from maskrcnn.input_files import read_lines

IMAGE_FOLDERS = ("jpegimages", "images", "imgs", "img")
OBJECT_FOLDERS = ("segmentationobject", "segmentationobjectpng")
CLASS_FOLDERS = ("segmentationclass", "segmentationclasspng")
XML_FOLDERS = ("annotations", "annots", "annotation", "xml", "xmls", "labels")


class Masks(NamedTuple):
    """An image's objects: an RLE and the index of the class for each."""

    image: Path
    size: Size
    objects: list[tuple[dict[str, Any], int]]


def find(folder: Path) -> FoundDataset | None:
    """A dataset in VOC's form, also as it lies in VOCdevkit/VOC2012.

    Raises:
        UserError: there are several.
    """
    below = [path for pattern in ("*", "VOC*/VOC*") for path in sorted(folder.glob(pattern)) if path.is_dir()]
    roots = [root for root in (folder, *below) if child(root, *OBJECT_FOLDERS)]
    if len(roots) > 1:
        listed = ", ".join(str(root.relative_to(folder)) for root in roots)
        raise UserError(
            f"{folder}: several Pascal VOC datasets ({listed}); give one with --data_dir, such as {roots[0]}"
        )
    if roots and (found := _find_masks(roots[0])):
        return found
    listing = [root for root in (folder, *below) if child(root, "imagesets")]
    return _find_boxes(listing[0] if len(listing) == 1 else folder)


def _find_masks(root: Path) -> FoundDataset | None:
    objects, classes = child(root, *OBJECT_FOLDERS), child(root, *CLASS_FOLDERS)
    files = {path.stem: path for path in walk(objects, {".png"})} if objects else {}
    if objects is None or not files:
        return None
    finder = ImageFinder(child(root, *IMAGE_FOLDERS) or root)
    groups = _image_sets(root, "segmentation", files) or {UNSPLIT: list(files.values())}

    @functools.cache
    def masks() -> dict[Path, Masks | str]:
        paths = list(dict.fromkeys(path for group in groups.values() for path in group))
        results = map_in_threads(lambda path: _masks(path, classes, finder), paths, "reading masks")
        return dict(zip(paths, results, strict=True))

    @functools.cache
    def names() -> dict[int, str]:
        known = {path.stem: result for path, result in masks().items() if isinstance(result, Masks)}
        return _names(root, known) if classes else {1: OBJECT}

    class_files = list(walk(classes, {".png"})) if classes else []
    return found_dataset(
        "Pascal VOC segmentation",
        groups,
        lambda name: _read_masks(root, {path: masks()[path] for path in groups[name]}, names()),
        origin=lambda name: objects,
        list_files=lambda name: [*groups[name], *class_files],
    )


def _names(root: Path, masks: dict[str, Masks]) -> dict[int, str]:
    """Names by class index: listed in a file, else VOC's, unless XML files tell others; ``class 7`` for the rest."""
    used = {index for result in masks.values() for _, index in result.objects} - {BACKGROUND, VOID}
    others = {index: f"class {index}" for index in used}
    if listed := listed_names(root):
        return {**others, **listed}
    documents = {path.stem: document for path in _xml_files(root) if (document := parse_xml(path))}
    if {entry.name for document in documents.values() for entry in document.objects} <= set(VOC_NAMES):
        return {**others, **dict(enumerate(VOC_NAMES, start=1))}
    votes: dict[int, Counter[str]] = defaultdict(Counter)
    for stem in masks.keys() & documents.keys():
        for rle, index in masks[stem].objects:
            votes[index].update(documents[stem].names_at(mask_utils.toBbox(rle).tolist()))
    return {index: votes[index].most_common(1)[0][0] if votes[index] else name for index, name in others.items()}


def _find_boxes(root: Path) -> FoundDataset | None:
    files = _xml_files(root)
    if not any(map(is_voc_xml, files[:5])):
        return None
    groups = _image_sets(root, "main", {path.stem: path for path in files}) or by_split(files, root)
    finder = ImageFinder(root)
    documents = functools.cache(lambda: {path: parse_xml(path) for paths in groups.values() for path in paths})

    def read(name: str) -> RawSplit:
        known = [document for document in documents().values() if document]
        content = Content(root, sorted({entry.name for document in known for entry in document.objects}))
        pairs = []
        for path in groups[name]:
            document = documents()[path]
            if document is None:
                content.note("XML files skipped that are not VOC annotations", path)
            elif image := finder.find(document.file_name, path.parent) or finder.find(path.stem, path.parent):
                pairs.append((image, document))
            else:
                content.note("missing images skipped", f"{path}: {document.file_name}")
        for image, size, document in content.readable(pairs):
            add_objects(content, content.add_image(image, size), size, document)
        return content.split()

    return found_dataset("Pascal VOC", groups, read, origin=lambda name: groups[name][0].parent)


def _xml_files(root: Path) -> list[Path]:
    return list(walk(child(root, *XML_FOLDERS) or root, {".xml"}))


def _image_sets(root: Path, kind: str, files: dict[str, Path]) -> dict[str, list[Path]]:
    """The files of each split that ImageSets lists; trainval only where train and val are not listed."""
    sets = child(root, "imagesets")
    lists = child(sets, kind) if sets else None
    if lists is None:
        return {}
    groups: dict[str, list[Path]] = {}
    for name in (*SPLIT_NAMES, "trainval"):
        if (path := lists / f"{name}.txt").is_file():
            stems = [line.split()[0] for line in read_lines(path)]
            if listed := [files[stem] for stem in stems if stem in files]:
                groups[name] = listed
    both = groups.pop("trainval", None)
    if both and "train" not in groups and "val" not in groups:
        groups[UNSPLIT] = both
    return groups


def _read_masks(root: Path, masks: dict[Path, Masks | str], names: dict[int, str]) -> RawSplit:
    content = Content(root, list(dict.fromkeys(names[index] for index in sorted(names))))
    for path, result in masks.items():
        if not isinstance(result, Masks):
            content.note(result, path)
            continue
        image_id = content.add_image(result.image, result.size)
        for number, (rle, index) in enumerate(result.objects, start=1):
            if index in (BACKGROUND, VOID):
                content.note("objects skipped that have no class in SegmentationClass", f"{path}, object {number}")
            else:
                content.add_object(image_id, names[index], rle, example=f"{path}, object {number}")
    return content.split()


def _masks(path: Path, classes: Path | None, finder: ImageFinder) -> Masks | str:
    """The objects of a SegmentationObject file, or why it is skipped."""
    image, ids = finder.find(f"{path.stem}.jpg", path.parent.parent), read_ids(path)
    size = read_size(image) if image else None
    if image is None or size is None:
        return "masks skipped whose image is missing or cannot be read"
    if ids is None:
        return "masks skipped that cannot be read"
    if ids.shape != size:
        return "masks skipped whose size is not their image's"
    void = VOID if ids.max() < COLOR else palette_color(VOID)
    ids = np.where(ids == void, 0, ids)  # without the border
    rles = encode_ids(ids)
    if classes is None:
        return Masks(image, size, [(rle, 1) for rle in rles.values()])
    kinds = read_ids(classes / path.name)
    if kinds is None or kinds.shape != size:
        return "masks skipped whose file in SegmentationClass is missing or of another size"
    kinds = class_indices(kinds, classes.parent)
    return Masks(image, size, [(rles[id], index) for id, index in _majority(ids, kinds).items()])


def _majority(ids: NDArray[np.int64], kinds: NDArray[np.int64]) -> dict[int, int]:
    """The class index that most pixels of each object have; background and void only where it has no other."""
    unique, counts = np.unique(np.stack([ids.ravel(), kinds.ravel()]), axis=1, return_counts=True)
    votes: dict[int, Counter[int]] = defaultdict(Counter)
    for id, kind, count in zip(*unique.tolist(), counts.tolist(), strict=True):
        if id:
            votes[id][kind] += 0 if kind in (BACKGROUND, VOID) else count
    return {id: vote.most_common(1)[0][0] for id, vote in votes.items()}
