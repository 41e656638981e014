"""The page of a published model: what it is, what it was trained on, how good it is, how to load it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from maskrcnn.config import Config
from maskrcnn.errors import UserError
from maskrcnn.input_files import read_json

PICTURE_FILE = "sample.png"
USE = "Finding objects of the classes above, with their masks, in images like those it was trained on."
LIMITS = (
    "On other images, these metrics do not hold. Scores are not probabilities. Do not rely on it alone where people "
    "could be harmed."
)
CARD = """---
library_name: keras
pipeline_tag: image-segmentation
tags:
- mask-rcnn
- instance-segmentation
license: {license_id}
---

# {title}

Instance segmentation by Mask R-CNN ({backbone}), trained with the package maskrcnn for Keras 3.

{picture}## Load

    pip install 'maskrcnn[tensorflow,hub]'
    maskrcnn pull {repository} model
    maskrcnn infer photo.jpg --model_dir model

```python
import maskrcnn

detections = maskrcnn.load("model").predict("photo.jpg")
```

## Classes

{classes}

## Data

{data}

## Metrics

{metrics}

## Intended use

{use}

{limits}

## License

{license}
"""


@dataclass(frozen=True)
class CardText:
    """What only the owner knows; what is None is said to be unknown."""

    license: str | None = None  # an id of the Hub, such as apache-2.0
    data: str | None = None  # what the training images are and where they are from
    use: str | None = None
    picture: Path | None = None


def model_card(repository: str, config: Config, model_dir: Path, text: CardText) -> str:
    """The page of a model folder, in Markdown with the Hub's YAML at its head.

    Raises:
        UserError: the folder's metrics.json is damaged.
    """
    metrics = _metrics(model_dir)
    names = [category.name for category in config.categories]
    return CARD.format(
        license_id=text.license or "other",
        title=_plain(repository.partition("/")[2]),
        backbone=_plain(config.model.backbone.name or f"ResNet-{config.model.backbone.depth}-FPN"),
        picture=f"![Detections of this model]({PICTURE_FILE})\n\n" if text.picture else "",
        repository=repository,
        classes="\n".join(f"- {_plain(name)}" for name in names) or "None: a backbone.",
        data=_plain(text.data or "Its owner has not described the training images."),
        metrics=metrics or "It has not been evaluated.",
        use=_plain(text.use or USE),
        limits=LIMITS,
        license=_plain(text.license or "Its owner has not stated one; ask before you use it."),
    )


def _metrics(model_dir: Path) -> str:
    path = model_dir / "metrics.json"
    if not path.exists():
        return ""
    metrics = read_json(path, "the metrics of `maskrcnn eval`")
    try:
        images, split = int(metrics["images"]), _plain(metrics.get("data", {}).get("split", "val"))
        rows = [_row(title, metrics[key]) for title, key in (("boxes", "bbox"), ("masks", "segm"))]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UserError(f"{path}: not the metrics of a model ({error!r}); run `maskrcnn eval` again") from error
    table = ["| | AP | AP50 | AP75 |", "|---|---|---|---|", *rows]
    command = f"`maskrcnn eval --data_dir DATA --model_dir model --split {split}`"
    return "\n".join([f"COCO metrics of {images} images of the split {split}, by {command}:", "", *table])


def _row(title: str, metrics: dict[str, Any]) -> str:
    return f"| {title} | {' | '.join(f'{float(metrics[name]):.3f}' for name in ('AP', 'AP50', 'AP75'))} |"


def _plain(text: object) -> str:
    """Text that Markdown and HTML show as it is."""
    escaped = " ".join(str(text).split()).replace("&", "&amp;").replace("<", "&lt;")
    return "".join(f"\\{char}" if char in "\\`*_[]|" else char for char in escaped)
