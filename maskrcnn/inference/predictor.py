"""A trained model that predicts images and batches of them."""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple, Protocol, overload

import numpy as np
from numpy.typing import NDArray

from maskrcnn.config import Category, Config
from maskrcnn.errors import UserError
from maskrcnn.imaging.canvas import prepare
from maskrcnn.imaging.read import load_image
from maskrcnn.inference.detections import Detections, Outputs, Source, to_original

PASTE_WORKERS = 2  # threads beside the forward pass; pasting is quick, more would only take its cores away


class Model(Protocol):
    """The part of `keras.Model` that prediction needs."""

    def predict_on_batch(self, x: Any) -> Any: ...


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
    from maskrcnn.weights.model_folder import load_model  # imports Keras

    return Predictor(*load_model(model_dir))


def _checked(image: NDArray[Any]) -> NDArray[np.uint8]:
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or not image.size:
        raise UserError(f"image array {image.shape} of {image.dtype}: expected RGB [height, width, 3] of uint8")
    return image


class ImagePrediction(NamedTuple):
    """One image of an evaluation dataset with what was found in it."""

    image_id: int
    detections: Detections
    image: NDArray[np.uint8]  # [h, w, 3] RGB, as the model saw it (resized)


def predict_batches(
    model: Model, dataset: Iterable[dict[str, Any]], categories: tuple[Category, ...]
) -> Iterator[ImagePrediction]:
    """Runs the model over evaluation batches and yields image after image, in the dataset's order.

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
