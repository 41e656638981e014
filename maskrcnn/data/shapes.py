"""Drawn shapes with exact masks, as a COCO dataset: for a first run within minutes, and for tests.

Later shapes cover earlier ones; each mask is the part that can be seen. Colors and textures say nothing of the class.
"""

import json
import math
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw
from tqdm import tqdm

from maskrcnn.data.coco.segmentation import mask_fields
from maskrcnn.errors import UserError
from maskrcnn.input_files import MAX_ANNOTATION_BYTES, read_json
from maskrcnn.runtime.files import write_text, writing

CLASSES = ("circle", "square", "triangle", "star", "ring")
DESCRIPTION = "maskrcnn shapes"
DRAWN = re.compile(r"\d{6}\.jpg")
SUPERSAMPLE = 4  # points along each side of a pixel; half of them make it part of a mask
MAX_OBJECTS = 5
EMPTY_FRACTION = 0.06
RADII = 0.09, 0.26  # of a shape, relative to the image's side
PERIODS = 0.04, 0.15  # of stripes and checks, relative to the image's side
TEXTURE = 40  # of 255, largest difference of a texture's two colors
MIN_CONTRAST = 70  # of 255, in one color at least, between the means of a shape and of what is behind it
MIN_VISIBLE = 0.6  # of a shape's area; a shape that would hide more of another is put elsewhere
MAX_TURN = math.pi / 6  # either way, from a shape's upright position
PLACEMENTS = 12  # tries before a shape is given up


@dataclass
class _Shape:
    category_id: int
    outline: np.ndarray  # float64 [points, 2], px
    hole: np.ndarray | None  # the same, of a ring
    area: int  # px, within and without the image
    visible: np.ndarray  # bool [size, size]
    coverage: np.ndarray  # float32 [h, w], how much of each pixel it covers, of the part of the image given by
    window: tuple[slice, slice]


def write_shapes(
    out_dir: str | Path,
    *,
    train_images: int = 400,
    val_images: int = 64,
    image_size: int = 256,
    seed: int = 0,
    progress: bool = True,
) -> Path:
    """Draws ``train/``, ``val/`` and ``annotations/instances_{train,val}.json``; the same arguments, the same files.

    Raises:
        UserError: impossible numbers, an unwritable folder, or one that holds another dataset.
    """
    if not str(out_dir):
        raise UserError("shapes: the folder has no name; name one")
    out_dir = Path(out_dir)
    if train_images < 1 or val_images < 1 or image_size < 32:
        raise UserError("shapes: at least 1 image a split and 32 px a side are needed")
    _refuse_other_data(out_dir)
    with writing(out_dir):
        (out_dir / "annotations").mkdir(parents=True, exist_ok=True)
        for split, (name, count) in enumerate((("train", train_images), ("val", val_images))):
            _write_split(out_dir, name, count, image_size, (seed, split), progress)
    return out_dir


def _refuse_other_data(folder: Path) -> None:
    """Refuses a folder that holds anything but shapes, of whose writing an earlier start may have been interrupted."""
    if not os.path.isdir(folder):
        return
    ours = {"annotations", "train", "val", "tfrecords"}
    other = sorted(path.name for path in folder.iterdir() if path.name not in ours and not path.name.startswith("."))
    for name in ("train", "val"):
        path = folder / "annotations" / f"instances_{name}.json"
        if path.is_file():
            content = read_json(path, "annotations of shapes", MAX_ANNOTATION_BYTES)
            info = content.get("info") if isinstance(content, dict) else None
            if not isinstance(info, dict) or info.get("description") != DESCRIPTION:
                other.append(f"annotations/{path.name}")
        elif any(not DRAWN.fullmatch(image.name) for image in folder.glob(f"{name}/*")):
            other.append(name)
    known = {f"instances_{name}.json" for name in ("train", "val")}
    other += [f"annotations/{path.name}" for path in folder.glob("annotations/[!.]*") if path.name not in known]
    if other:
        raise UserError(f"{folder}: holds something else ({other[0]}); choose another folder for the shapes")


def _write_split(out_dir: Path, name: str, count: int, size: int, seeds: tuple[int, int], progress: bool) -> None:
    (out_dir / name).mkdir(exist_ok=True)
    images, annotations = [], []
    for number in tqdm(range(1, count + 1), desc=f"drawing {name}", unit=" images", disable=not progress):
        image, shapes = draw_image(np.random.default_rng([*seeds, number]), size)
        file_name = f"{number:06d}.jpg"
        Image.fromarray(image).save(out_dir / name / file_name, quality=95)
        images.append({"id": number, "file_name": file_name, "height": size, "width": size})
        for shape in shapes:
            annotations.append({"id": len(annotations) + 1, "image_id": number, **_annotation(shape)})
    content = {
        "info": {"description": DESCRIPTION},
        "images": images,
        "annotations": annotations,
        "categories": [{"id": number, "name": name} for number, name in enumerate(CLASSES, start=1)],
    }
    write_text(out_dir / "annotations" / f"instances_{name}.json", json.dumps(content))


def draw_image(rng: np.random.Generator, size: int) -> tuple[np.ndarray, list[_Shape]]:
    """An image, uint8 [size, size, 3], and its shapes from the back to the front."""
    image = _texture(rng, size, period=rng.uniform(*PERIODS) * size)
    shapes: list[_Shape] = []
    wanted = 0 if rng.random() < EMPTY_FRACTION else int(rng.integers(1, MAX_OBJECTS + 1))
    for _ in range(wanted):
        category_id = int(rng.integers(1, len(CLASSES) + 1))
        radius = math.exp(rng.uniform(*np.log(RADII))) * size
        for _ in range(PLACEMENTS):
            shape = _draw(CLASSES[category_id - 1], radius, rng, size)
            if _leaves_enough(shape, shapes):
                break
        else:
            continue
        for other in shapes:
            other.visible &= ~shape.visible
        shapes.append(shape)
        behind = image[shape.window]
        behind += (_contrasting_texture(rng, behind, size) - behind) * shape.coverage[..., None]
    noise = rng.standard_normal(image.shape, np.float32) * rng.uniform(1, 6)
    return (image + noise).clip(0, 255).astype(np.uint8), shapes


def _contrasting_texture(rng: np.random.Generator, behind: np.ndarray, size: int) -> np.ndarray:
    """A texture of the shape of ``behind``, in colors that stand out from it."""
    height, width = behind.shape[:2]
    while True:
        fill = _texture(rng, max(height, width), period=rng.uniform(*PERIODS) * size)[:height, :width]
        if np.abs(fill.mean((0, 1)) - behind.mean((0, 1))).max() > MIN_CONTRAST:
            return fill


def _leaves_enough(shape: _Shape, others: list[_Shape]) -> bool:
    if shape.visible.sum() < MIN_VISIBLE * shape.area:
        return False  # too much of it is outside the image
    return all((other.visible & ~shape.visible).sum() >= MIN_VISIBLE * other.area for other in others)


def _draw(name: str, radius: float, rng: np.random.Generator, size: int) -> _Shape:
    """A shape somewhere in the image, turned at random."""
    outline, hole = _outline(name, rng)
    angle, (x, y) = rng.uniform(-MAX_TURN, MAX_TURN), rng.uniform(0, size, 2)
    turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]]) * radius
    outline = outline @ turn.T + (x, y)
    hole = None if hole is None else hole @ turn.T + (x, y)
    left, top = math.floor(x - radius) - 1, math.floor(y - radius) - 1
    side = math.ceil(2 * radius) + 3  # px of the patch that holds the whole shape
    patch = Image.new("L", (side * SUPERSAMPLE, side * SUPERSAMPLE))
    draw = ImageDraw.Draw(patch)
    for corners, fill in ((outline, 255), (hole, 0)):
        if corners is not None:  # Pillow's coordinates name the centers of pixels, ours their corners
            draw.polygon(((corners - (left, top)) * SUPERSAMPLE - 0.5).ravel().tolist(), fill=fill)
    covered = np.asarray(patch.reduce(SUPERSAMPLE), np.float32) / 255
    area = int((covered >= 0.5).sum())
    rows, columns = slice(max(top, 0), min(top + side, size)), slice(max(left, 0), min(left + side, size))
    covered = covered[rows.start - top : rows.stop - top, columns.start - left : columns.stop - left]
    visible = np.zeros((size, size), bool)
    visible[rows, columns] = covered >= 0.5
    return _Shape(CLASSES.index(name) + 1, outline, hole, area, visible, covered, (rows, columns))


def _outline(name: str, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray | None]:
    """Corners [points, 2] of a shape within the unit circle, and those of its hole."""
    if name == "square":
        return _spokes(4, [1.0]), None
    if name == "triangle":
        return _spokes(3, [1.0]), None
    if name == "star":
        return _spokes(10, [1.0, rng.uniform(0.4, 0.5)]), None
    circle = _spokes(64, [1.0])
    return circle, circle * rng.uniform(0.45, 0.65) if name == "ring" else None


def _spokes(count: int, lengths: list[float]) -> np.ndarray:
    angles = np.arange(count) * (2 * math.pi / count)
    radii = np.resize(lengths, count)
    return np.stack([radii * np.cos(angles), radii * np.sin(angles)], axis=-1)


def _texture(rng: np.random.Generator, size: int, *, period: float) -> np.ndarray:
    """Two colors in a gradient, stripes, checks or clouds: float32 [size, size, 3]."""
    first = rng.uniform(0, 255, 3)
    second = (first + rng.uniform(-TEXTURE, TEXTURE, 3)).clip(0, 255)
    angle, phase = rng.uniform(0, 2 * math.pi, 2)
    y, x = np.mgrid[:size, :size].astype(np.float32)
    along, across = x * math.cos(angle) + y * math.sin(angle), y * math.cos(angle) - x * math.sin(angle)
    kind = rng.integers(4)
    if kind == 0:
        blend = along / (1.5 * size) + 0.5
    elif kind == 1:
        blend = np.sin(along * (2 * math.pi / period) + phase) > 0
    elif kind == 2:
        blend = (np.sin(along * (2 * math.pi / period)) > 0) ^ (np.sin(across * (2 * math.pi / period)) > 0)
    else:
        cells = int(rng.integers(3, 12))
        grid = rng.uniform(0, 1, (cells, cells)).astype(np.float32)
        blend = np.asarray(Image.fromarray(grid).resize((size, size), Image.Resampling.BICUBIC))
    blend = np.asarray(blend, np.float32).clip(0, 1)[..., None]
    return first.astype(np.float32) + (second - first).astype(np.float32) * blend


def _annotation(shape: _Shape) -> dict[str, Any]:
    """COCO's fields: the outline of a shape that is whole, or else an RLE of what is visible."""
    fields = mask_fields(shape.visible)
    if shape.hole is None and shape.visible.sum() == shape.area:
        corners = shape.outline.clip(0, shape.visible.shape[0]).round(2)
        fields["bbox"] = [float(side) for side in (*corners.min(0), *np.ptp(corners, axis=0))]
        fields["segmentation"] = [corners.ravel().tolist()]
    return {"category_id": shape.category_id, **fields, "iscrowd": 0}
