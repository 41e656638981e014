"""Images for a page: a thumbnail, and over it the outlines of detections and ground truth that the page can hide."""

import base64
import io
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from contourpy import contour_generator
from numpy.typing import NDArray
from PIL import Image

from maskrcnn.data.loader.transforms import decode
from maskrcnn.data.records.split import Split
from maskrcnn.data.records.tfrecord import RecordReader
from maskrcnn.evaluation.analysis import Analysis
from maskrcnn.evaluation.coco_metrics import CocoScorer
from maskrcnn.imaging.draw import Instance, color_of
from maskrcnn.imaging.mask_paste import RLE, decode_rles

MAX_SIDE = 512  # px of the longer side of a thumbnail
QUALITY = 78  # of its JPEG
MAX_OUTLINES = 150  # of an image; more would hide it

Status = Literal["right", "wrong", "found", "missed"]  # detections are right or wrong, objects found or missed


@dataclass(frozen=True)
class Outline:
    """A mask as an SVG path, px of the thumbnail."""

    path: str
    status: Status
    label: str


@dataclass(frozen=True)
class Figure:
    """An image of a gallery."""

    id: int
    name: str
    image: str  # data URI
    size: tuple[int, int]  # width and height of the thumbnail, px
    outlines: list[Outline]
    groups: list[str] = field(default_factory=list)  # words by which the page filters
    facts: list[str] = field(default_factory=list)  # for the caption
    sort: dict[str, float] = field(default_factory=dict)  # numbers by which the page sorts


def read_images(split: Split, image_ids: Iterable[int]) -> Iterator[tuple[int, NDArray[np.uint8]]]:
    """Yields the pixels [H, W, 3] of images of a split, skipping those that it does not have."""
    positions = {int(image_id): position for position, image_id in enumerate(split.index.image_ids)}
    for image_id in image_ids:
        if image_id in positions:
            yield image_id, read_instances(split, positions[image_id])[0]


def read_instances(split: Split, position: int) -> tuple[NDArray[np.uint8], list[Instance]]:
    """Reads an image of a split, RGB [H, W, 3], with its objects, but not its crowds."""
    categories = {category.index: category for category in split.categories}
    example = decode(
        RecordReader(split.index.files).read(split.index.spans[position]),
        category_ids=[category.id for category in split.categories],
        class_indices=list(categories),
        max_instances=max(int(split.index.objects[position]), 1),
    )
    image = example["image"].numpy()
    objects = zip(example["boxes"].numpy(), example["classes"].numpy(), example["masks"].numpy(), strict=True)
    instances = [
        Instance(box, spread_mask(mask, box, *image.shape[:2]), categories[number].name, color_of(number))
        for box, number, mask in objects
    ]
    return image, instances


def spread_mask(mask: NDArray[np.uint8], box: NDArray[np.float32], height: int, width: int) -> NDArray[np.bool_]:
    """Resizes a mask [M, M] to its box in an image [height, width], by nearest neighbor."""
    inside, nearest = [], []
    for low, high, side, count in ((box[1], box[3], height, len(mask)), (box[0], box[2], width, mask.shape[1])):
        pixel = np.floor((np.arange(side) + 0.5 - low) / (high - low) * count).astype(int)
        inside.append((pixel >= 0) & (pixel < count))
        nearest.append(pixel.clip(0, count - 1))
    return mask[np.ix_(*nearest)].astype(bool) & np.outer(*inside)


def jpeg_uri(image: Image.Image, *, quality: int) -> str:
    """An image as the data URI of a JPEG."""
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def thumbnail(image: NDArray[np.uint8]) -> tuple[str, float]:
    """An RGB image as a data URI, and the scale at which it is shown."""
    scale = min(MAX_SIDE / max(image.shape[:2]), 1.0)
    size = max(round(image.shape[1] * scale), 1), max(round(image.shape[0] * scale), 1)
    return jpeg_uri(Image.fromarray(image).resize(size, Image.Resampling.LANCZOS), quality=QUALITY), scale


def outlines(scorer: CocoScorer, analysis: Analysis, image_ids: Iterable[int]) -> dict[int, list[tuple[RLE, Outline]]]:
    """The masks of images with what to show of them: ground truth first, then detections from the threshold on."""
    names = {category["id"]: category["name"] for category in scorer.ground_truth["categories"]}
    drawn: dict[int, list[tuple[RLE, Outline]]] = {image_id: [] for image_id in image_ids}
    for entry in scorer.ground_truth["annotations"]:
        if entry["image_id"] in drawn and not entry["iscrowd"]:
            status: Status = "found" if entry["id"] in analysis.found else "missed"
            name = names[entry["category_id"]]
            drawn[entry["image_id"]].append((entry["segmentation"], Outline("", status, f"{name}, {status}")))
    rows = scorer.rows
    for i in np.flatnonzero(rows[:, 5] >= analysis.threshold):
        image_id, score, category_id = int(rows[i, 0]), rows[i, 5], int(rows[i, 6])
        if image_id in drawn:
            status = "right" if int(i) in analysis.matched else "wrong"
            label = f"{names[category_id]} {score:.2f}, {status}"
            drawn[image_id].append((scorer.rles[i], Outline("", status, label)))
    return drawn


def trace(masks: list[tuple[RLE, Outline]], image: NDArray[np.uint8], scale: float) -> list[Outline]:
    """The outlines with their paths at the scale of the thumbnail."""
    traced = []
    for rle, outline in masks[:MAX_OUTLINES]:
        mask = decode_rles([rle], *image.shape[:2])[0] if list(rle["size"]) == list(image.shape[:2]) else None
        if mask is not None and (path := svg_path(mask, scale)):
            traced.append(Outline(path, outline.status, outline.label))
    return traced


def svg_path(mask: NDArray[np.bool_], scale: float) -> str:
    """The outline of a mask [H, W] at a scale, px; empty if the mask is."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        return ""
    top, left = rows[0], columns[0]
    window = np.pad(mask[top : rows[-1] + 1, left : columns[-1] + 1], 1).astype(np.float32)
    lines: Any = contour_generator(z=window).lines(0.5)
    step = max(round(2 / scale), 1)  # a point every 2 px of the thumbnail
    parts = []
    for line in lines:
        chosen = line[:: step if len(line) > 8 * step else 1]
        points = ((chosen + np.array([left - 0.5, top - 0.5])) * scale).round(1)
        parts.append("M" + "L".join(f"{x:g} {y:g}" for x, y in points) + "Z")
    return "".join(parts)


def figures(
    scorer: CocoScorer, analysis: Analysis, split: Split, groups: dict[int, list[str]], facts: dict[int, list[str]]
) -> list[Figure]:
    """The figures of images, which are the keys of ``groups``, in their order."""
    masks = outlines(scorer, analysis, groups)
    outcomes = {image.id: image for image in analysis.images}
    made = []
    for image_id, pixels in read_images(split, groups):
        uri, scale = thumbnail(pixels)
        outcome = outcomes[image_id]
        size = round(pixels.shape[1] * scale), round(pixels.shape[0] * scale)
        numbers = {"f1": outcome.f1, "errors": outcome.missed + outcome.wrong, "doubtful": outcome.doubtful}
        traced = trace(masks[image_id], pixels, scale)
        made.append(Figure(image_id, outcome.file_name, uri, size, traced, groups[image_id], facts[image_id], numbers))
    return made
