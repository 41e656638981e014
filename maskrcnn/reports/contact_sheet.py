"""The contact sheet of a dataset: images with the boxes and masks that training sees."""

import base64
import io
from collections import Counter
from pathlib import Path

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from numpy.typing import NDArray

from maskrcnn.config import DataConfig
from maskrcnn.data.loader.transforms import decode
from maskrcnn.data.records.split import Split
from maskrcnn.data.records.tfrecord import RecordReader
from maskrcnn.data.splits import SplitName, find_dataset
from maskrcnn.imaging.draw import Instance, color_of, draw_instances
from maskrcnn.runtime.files import replacing

MAX_SIDE = 512  # px of the longer side of an image


def write_contact_sheet(
    data_dir: str | Path,
    out_dir: str | Path,
    *,
    split: SplitName = "train",
    num_images: int = 48,
    options: DataConfig | None = None,
) -> Path:
    """Writes ``SPLIT.html``, a page without other files, with ``num_images`` images spread evenly over a split.

    Raises:
        UserError: the split cannot be opened.
    """
    dataset = find_dataset(data_dir, options or DataConfig(), cache_dir=out_dir)
    dataset.convert(split)
    opened = dataset.open(split)
    positions = np.unique(np.linspace(0, opened.num_examples - 1, min(num_images, opened.num_examples)).round())
    figures, counts = [], Counter()
    for position in positions.astype(int):
        image, instances = read_instances(opened, position)
        counts.update(instance.label for instance in instances)
        figures.append(
            {
                "id": int(opened.index.image_ids[position]),
                "size": f"{image.shape[1]} x {image.shape[0]}",
                "objects": len(instances),
                "data": _embed(image, instances),
            }
        )
    environment = Environment(loader=PackageLoader("maskrcnn.reports"), autoescape=True, undefined=StrictUndefined)
    page = environment.get_template("browse.html").render(
        title=f"{Path(data_dir).resolve().name}, {split}",
        total=opened.num_examples,
        categories=[(category.name, counts[category.name]) for category in opened.categories],
        figures=figures,
    )
    path = Path(out_dir) / f"{split}.html"
    with replacing(path) as temporary:
        temporary.write_text(page, encoding="utf-8")
    return path


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


def _embed(image: NDArray[np.uint8], instances: list[Instance]) -> str:
    drawn = draw_instances(image, instances, scale=min(MAX_SIDE / max(image.shape[:2]), 2.0))
    buffer = io.BytesIO()
    drawn.save(buffer, "JPEG", quality=85)
    return base64.b64encode(buffer.getvalue()).decode()
