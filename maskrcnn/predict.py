"""From images to detections in the images' own pixels."""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol, overload

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from maskrcnn.config import Category, Config
from maskrcnn.draw import Instance, color_of, draw_instances
from maskrcnn.errors import UserError
from maskrcnn.images import load_image, prepare
from maskrcnn.paste import RLE, decode, paste_and_encode

Outputs = dict[str, NDArray[Any]]  # what the model returns, see MaskRCNN
Source = str | Path | NDArray[np.uint8]

PASTE_WORKERS = 2  # threads beside the forward pass; pasting is quick, more would only take its cores away


class Model(Protocol):
    """The part of `keras.Model` that prediction needs."""

    def predict_on_batch(self, x: Any) -> Any: ...


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


class Predictor:
    """A trained model with all that is needed to use it on pictures."""

    def __init__(self, model: Model, config: Config) -> None:
        self.model = model
        self.config = config

    @overload
    def predict(self, source: Source) -> Detections: ...

    @overload
    def predict(self, source: Sequence[Source]) -> list[Detections]: ...

    def predict(self, source: Source | Sequence[Source]) -> Detections | list[Detections]:
        """Detections in an image file or an RGB uint8 array [H, W, 3], or a list of them for a list.

        Raises:
            UserError: a file that cannot be read, or an array of another shape or type.
        """
        if isinstance(source, str | Path):
            return self._predict(load_image(source))
        if isinstance(source, np.ndarray):
            return self._predict(_checked(source))
        return [self.predict(one) for one in source]

    def _predict(self, image: NDArray[np.uint8]) -> Detections:
        prepared = prepare(image, self.config.model.image)
        sizes = np.array([prepared.image_size], np.float32)
        outputs = self.model.predict_on_batch({"images": prepared.canvas[None], "image_sizes": sizes})
        first = {name: np.asarray(value)[0] for name, value in outputs.items()}
        return to_original(first, prepared.image_size, prepared.original_size, self.config.categories)


def load(model_dir: str | Path) -> Predictor:
    """The predictor of a folder that `maskrcnn train` left.

    Raises:
        UserError: the folder holds no model.
    """
    from maskrcnn.folder import load_model  # imports Keras

    return Predictor(*load_model(model_dir))


def _checked(image: NDArray[Any]) -> NDArray[np.uint8]:
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or not image.size:
        raise UserError(f"image array {image.shape} of {image.dtype}: expected RGB [height, width, 3] of uint8")
    return image


class ImagePrediction(NamedTuple):
    """One image of an evaluation data set with what was found in it."""

    image_id: int
    detections: Detections
    image: NDArray[np.uint8]  # [h, w, 3] RGB, as the model saw it (resized)


def predict_batches(
    model: Model, dataset: Iterable[dict[str, Any]], categories: tuple[Category, ...]
) -> Iterator[ImagePrediction]:
    """Runs the model over evaluation batches and yields image after image, in the data set's order.

    Masks are pasted by threads while the model works on the next batch; at most two batches are held.
    """
    with ThreadPoolExecutor(PASTE_WORKERS, thread_name_prefix="paste") as workers:
        waiting: deque[Future[ImagePrediction]] = deque()
        for batch in dataset:
            arrays = {name: np.asarray(value) for name, value in batch.items()}
            outputs = model.predict_on_batch({name: arrays[name] for name in ("images", "image_sizes")})
            outputs = {name: np.asarray(value) for name, value in outputs.items()}
            while waiting:  # of the batch before
                yield waiting.popleft().result()
            for i in np.nonzero(arrays["image_valid"])[0]:
                waiting.append(workers.submit(_finish, arrays, outputs, int(i), categories))
        while waiting:
            yield waiting.popleft().result()


def _finish(
    batch: dict[str, NDArray[Any]], outputs: Outputs, i: int, categories: tuple[Category, ...]
) -> ImagePrediction:
    height, width = (int(side) for side in batch["image_sizes"][i])
    original = int(batch["original_sizes"][i][0]), int(batch["original_sizes"][i][1])
    one = {name: value[i] for name, value in outputs.items()}
    detections = to_original(one, (height, width), original, categories)
    return ImagePrediction(int(batch["image_ids"][i]), detections, batch["images"][i, :height, :width])
