"""The splits of a dataset in memory, checked: with the classes of all splits; a missing val is held out of train."""

import dataclasses
import hashlib
import math
from collections.abc import Iterable, Mapping

from maskrcnn.data.coco.annotations import CocoDataset, Rules, check_split
from maskrcnn.data.coco.classes import unify_classes
from maskrcnn.data.coco.images import ImageEntry
from maskrcnn.data.coco.problems import BOXES_ONLY, NO_MASK, Problem, Severity
from maskrcnn.data.formats.found_dataset import FoundSplit, RawSplit
from maskrcnn.errors import UserError
from maskrcnn.input_files import no_collection

AUGMENTED = ".rf."  # Roboflow: NAME.rf.HASH.jpg, once for each augmented copy of an image


@dataclasses.dataclass(frozen=True)
class CheckedSplits:
    """The splits that were asked for, and how many images each split has."""

    splits: dict[str, CocoDataset]  # usable entries only; train and a val held out of it have the same problems
    images: dict[str, int]  # also of splits that were not asked for


@no_collection()
def read_splits(
    sources: Mapping[str, FoundSplit], names: Iterable[str], rules: Rules, held_out: float | None
) -> CheckedSplits:
    """Reads and checks splits.

    Args:
        sources: all splits of the dataset by name.
        names: those that are wanted.
        rules: how annotations are read.
        held_out: the fraction of the images of train that make val; None if val is a split of its own.

    Raises:
        UserError: a file that is not what it should be.
    """
    wanted = {"train" if name == "val" and held_out else name for name in names}
    raws = {name: raw for name, found in sources.items() if (raw := _read(found, name in wanted)) is not None}
    contents = {name: raw.content for name, raw in raws.items()}
    classes = unify_classes(contents, {name: sources[name].origin for name in raws})
    images = {name: len(raw.content["images"]) for name, raw in raws.items()}
    splits = {}
    for name in wanted:
        splits[name] = check_split(raws[name], sources[name].origin, classes[name], rules)
        images[name] = len(splits[name].images)
    if held_out and "train" in splits:
        splits["train"], splits["val"] = hold_out(splits["train"], held_out)
        train, val = splits["train"], splits["val"]
        if train.annotations and not any(_has_object(val, image.id) for image in val.images):
            text = "the images held out of train have no object, so that metrics mean nothing; annotate more images"
            train.problems.append(Problem("val without objects", train.path, "split val", text, Severity.NOTED))
        images |= {name: len(splits[name].images) for name in ("train", "val")}
    return CheckedSplits({name: splits[name] for name in names}, images)


def _read(found: FoundSplit, wanted: bool) -> RawSplit | None:
    """A split; None if it is not wanted and cannot be read: it only helps to know the classes."""
    try:
        return found.read()
    except UserError:
        if wanted:
            raise
        return None


def hold_out(dataset: CocoDataset, fraction: float) -> tuple[CocoDataset, CocoDataset]:
    """The dataset without, and with only, the images whose file name's hash falls into the fraction.

    The same names give the same parts on every machine, and images that are added leave the others where they are.
    Augmented copies of an image stay together. Neither part is empty if there are two images, nor without objects if
    two images have some; a single one is trained on.
    """
    groups: dict[str, list[ImageEntry]] = {}
    for image in dataset.images:
        groups.setdefault(image.file_name.split(AUGMENTED)[0], []).append(image)
    if len(groups) == 1:
        groups = {image.file_name: [image] for image in dataset.images}
    ordered = sorted(groups, key=_position)
    useful = [name for name in ordered if any(_has_object(dataset, image.id) for image in groups[name])]
    ends = useful[:-1][:1], useful[-1:]  # the first of those with objects is held out, the last is trained on
    ordered = [*ends[0], *(name for name in ordered if name not in ends[0] + ends[1]), *ends[1]]
    count = sum(_position(name) < fraction for name in ordered)
    count = min(max(count, 1), math.ceil(1.5 * fraction * len(ordered)), len(ordered) - 1)  # of few, chance takes many
    held = {image.id for name in ordered[:count] for image in groups[name]}
    return _part(dataset, held, inside=False), _part(dataset, held, inside=True)


def _has_object(dataset: CocoDataset, image_id: int) -> bool:
    return any(not annotation.is_crowd for annotation in dataset.annotations.get(image_id, ()))


def _position(name: str) -> float:
    """Where a name lies between 0 and 1."""
    return int.from_bytes(hashlib.sha256(name.replace("\\", "/").encode()).digest()[:8], "big") / 2**64


def _part(dataset: CocoDataset, held: set[int], *, inside: bool) -> CocoDataset:
    return dataclasses.replace(
        dataset,
        images=tuple(image for image in dataset.images if (image.id in held) == inside),
        annotations={key: group for key, group in dataset.annotations.items() if (key in held) == inside},
    )


def require_objects(dataset: CocoDataset) -> None:
    """Makes sure that there is something to learn from.

    Raises:
        UserError: no usable object is left.
    """
    objects = [annotation for group in dataset.annotations.values() for annotation in group]
    if any(not annotation.is_crowd for annotation in objects):
        return
    lost = [problem for problem in dataset.problems if problem.is_loss and problem.entry == "annotation"]
    notes = [problem.text for problem in dataset.problems if problem.entry == "file"]  # what the reader skipped
    reason = notes[0] if notes and not lost and not objects else _reason(lost, len(objects))
    raise UserError(f"{dataset.path}: no object to learn from: {reason}")


def _reason(lost: list[Problem], crowds: int) -> str:
    if crowds:
        text = f"all {crowds} are crowds (iscrowd 1, as CVAT writes brush masks)"
        return f"{text}; pass --crowds_as_objects to train on them"
    if without_mask := [problem for problem in lost if problem.kind == NO_MASK]:
        return f"{len(without_mask)} are {BOXES_ONLY}"
    if lost:
        return f"{len(lost)} cannot be used, the first: {lost[0].item}: {lost[0].text}; fix them"
    return "it has no annotations; add some"
