"""PNG files: images with their detections drawn on them, crops, and masks."""

from pathlib import Path

import numpy as np
from PIL import Image

from maskrcnn.config import Category
from maskrcnn.errors import UserError
from maskrcnn.imaging.draw import draw_resized
from maskrcnn.imaging.large_image import LargeImage
from maskrcnn.inference.outputs.conversions import crop, folder_names, save_png, write_masks
from maskrcnn.inference.outputs.item import Item

MAX_DRAWN = 1 << 26  # pixels: 8,192 px square
REDUCED_SIDE = 4096  # px


def write_drawing(item: Item, out_dir: Path, categories: tuple[Category, ...]) -> None:
    """Writes ``NAME.png``; very large images are drawn smaller. Frames are drawn into their video, elsewhere."""
    if "frame" in item.extra:
        return
    path = out_dir / f"{item.name}.png"
    if path.exists() and Path(item.file).exists() and path.samefile(item.file):
        raise UserError(f"{path}: the drawing would replace the image; choose another --out_dir")
    save_png(draw_item(item), path)


def draw_item(item: Item) -> Image.Image:
    """An image with its detections; of more than MAX_DRAWN pixels it is reduced to a longer side of REDUCED_SIDE."""
    height, width = item.detections.image_size
    if height * width <= MAX_DRAWN:
        return item.detections.draw(np.asarray(item.pixels()[0:height, 0:width]), 0.0)
    scale = REDUCED_SIDE / max(height, width)
    size = round(width * scale), round(height * scale)
    pixels = item.pixels()
    small = pixels.reduced(size) if isinstance(pixels, LargeImage) else np.asarray(Image.fromarray(pixels).resize(size))
    return draw_resized(Image.fromarray(small), item.detections.instances(), scale)


def write_crops(item: Item, out_dir: Path, categories: tuple[Category, ...]) -> None:
    """Writes ``crops/CLASS/NAME_I.png``, the part of the image inside each box."""
    folders = folder_names(categories)
    crops = crop(item.detections, item.pixels(), 0, masked=False)
    for i, (index, image) in enumerate(zip(item.detections.classes.tolist(), crops, strict=True), start=1):
        name = folders.get(index, f"class {index}")
        save_png(image, out_dir / "crops" / name / f"{item.name}_{i}.png")


def write_item_masks(item: Item, out_dir: Path, categories: tuple[Category, ...]) -> None:
    """Writes ``masks/CLASS/NAME_object_I.png``, one for each detection, so that overlaps are kept."""
    write_masks(item.detections, out_dir / "masks", item.name)
