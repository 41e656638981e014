"""The contact sheet of a dataset: images with the boxes and masks that training sees."""

from collections import Counter
from pathlib import Path

import numpy as np

from maskrcnn.config import DataConfig
from maskrcnn.data.splits import SplitName, find_dataset
from maskrcnn.imaging.draw import draw_instances
from maskrcnn.reports.gallery import MAX_SIDE, jpeg_uri, read_instances
from maskrcnn.reports.run_report import render


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
        drawn = draw_instances(image, instances, scale=min(MAX_SIDE / max(image.shape[:2]), 2.0))
        figures.append(
            {
                "id": int(opened.index.image_ids[position]),
                "size": f"{image.shape[1]} x {image.shape[0]}",
                "objects": len(instances),
                "image": jpeg_uri(drawn, quality=85),
            }
        )
    return render(
        "browse.html",
        Path(out_dir) / f"{split}.html",
        title=f"{Path(data_dir).resolve().name}, {split}",
        total=opened.num_examples,
        categories=[(category.name, counts[category.name]) for category in opened.categories],
        figures=figures,
    )
