"""The objects found in one image, in that image's own pixels."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from maskrcnn.config import Category
from maskrcnn.imaging.draw import Instance, color_of, draw_instances
from maskrcnn.imaging.mask_paste import RLE, decode, paste_and_encode
from maskrcnn.imaging.read import load_image

Outputs = dict[str, NDArray[Any]]  # what the model returns, see MaskRCNN
Source = str | Path | NDArray[np.uint8]


@dataclass(frozen=True, repr=False)
class Detections:
    """The objects found in one image, best first. K is their number."""

    boxes: NDArray[np.float32]  # [K, 4] xyxy, px of the image
    classes: NDArray[np.int32]  # [K] class indices, see Category
    scores: NDArray[np.float32]  # [K] from 0 to 1
    rles: list[RLE]  # [K] masks as COCO run-length codes, counts as bytes
    image_size: tuple[int, int]  # height and width of the image, px
    categories: tuple[Category, ...]

    def __len__(self) -> int:
        return len(self.scores)

    def __repr__(self) -> str:
        found = ", ".join(f"{name} {score:.2f}" for name, score in zip(self.names[:5], self.scores, strict=False))
        more = ", ..." if len(self) > 5 else ""
        height, width = self.image_size
        return f"Detections({len(self)} in {width}x{height} px{': ' if found else ''}{found}{more})"

    @property
    def masks(self) -> NDArray[np.bool_]:
        """[K, H, W], decoded anew at each access."""
        return decode(self.rles, *self.image_size)

    @property
    def names(self) -> list[str]:
        """[K] category names."""
        known = {category.index: category.name for category in self.categories}
        return [known.get(int(index), f"class {index}") for index in self.classes]

    def above(self, score_threshold: float) -> "Detections":
        """Those with at least this score."""
        kept = np.nonzero(self.scores >= score_threshold)[0]
        return Detections(
            self.boxes[kept],
            self.classes[kept],
            self.scores[kept],
            [self.rles[i] for i in kept],
            self.image_size,
            self.categories,
        )

    def to_coco(self, image_id: int) -> list[dict[str, Any]]:
        """COCO's result dicts, ready for JSON; classes that have no category are left out."""
        ids = {category.index: category.id for category in self.categories}
        results = []
        for box, index, score, rle in zip(self.boxes.tolist(), self.classes, self.scores, self.rles, strict=True):
            if int(index) in ids:
                x1, y1, x2, y2 = (round(value, 3) for value in box)
                results.append(
                    {
                        "image_id": image_id,
                        "category_id": ids[int(index)],
                        "bbox": [x1, y1, round(x2 - x1, 3), round(y2 - y1, 3)],
                        "score": round(float(score), 6),
                        "segmentation": {"size": list(rle["size"]), "counts": rle["counts"].decode("ascii")},
                    }
                )
        return results

    def draw(
        self,
        image: Source,
        score_threshold: float = 0.5,
        *,
        scale: float = 1.0,
        color_by: Literal["instance", "class"] = "instance",
        with_scores: bool = True,
    ) -> Image.Image:
        """The image (an RGB array or a file) with those detections on it that reach the score."""
        pixels = image if isinstance(image, np.ndarray) else load_image(image)
        shown = self.above(score_threshold)
        instances = []
        for i, (name, score) in enumerate(zip(shown.names, shown.scores, strict=True)):
            mask = decode([shown.rles[i]], *self.image_size)[0]
            color = color_of(i if color_by == "instance" else int(shown.classes[i]) - 1)
            label = f"{name} {score:.2f}" if with_scores else name
            instances.append(Instance(shown.boxes[i], mask, label, color))
        return draw_instances(pixels, instances, scale=scale)


def to_original(
    outputs: Outputs,
    image_size: tuple[float, float],
    original_size: tuple[int, int],
    categories: tuple[Category, ...],
) -> Detections:
    """Brings the model's outputs for one image back to that image's own pixels.

    Args:
        outputs: boxes [D, 4] in canvas pixels, classes [D], scores [D], masks [D, M, M], valid [D].
        image_size: height and width of the image on the canvas.
        original_size: height and width of the image itself.
        categories: of the classes.
    """
    valid = np.asarray(outputs["valid"], bool)
    height, width = (int(side) for side in original_size)
    scale_y, scale_x = height / float(image_size[0]), width / float(image_size[1])
    boxes = np.asarray(outputs["boxes"], np.float32)[valid] * np.array([scale_x, scale_y] * 2, np.float32)
    boxes = np.clip(boxes, 0, np.array([width, height] * 2, np.float32))
    rles = paste_and_encode(np.asarray(outputs["masks"], np.float32)[valid], boxes, height, width)
    classes = np.asarray(outputs["classes"], np.int32)[valid]
    scores = np.asarray(outputs["scores"], np.float32)[valid]
    return Detections(boxes, classes, scores, rles, (height, width), categories)
