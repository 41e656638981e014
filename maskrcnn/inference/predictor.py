"""A trained model that predicts single images, lists of them, and evaluation batches."""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple, Protocol, overload

import numpy as np
from numpy.typing import NDArray

from maskrcnn.config import Category, Config, ImageConfig
from maskrcnn.errors import UserError
from maskrcnn.imaging.canvas import Prepared, prepare
from maskrcnn.imaging.large_image import LargeImage, Pixels
from maskrcnn.inference.detections import Detections, ImageSource, Outputs, read_source, to_original
from maskrcnn.inference.tile_merging import Tile, merge_tiles, second_looks, tile_grid
from maskrcnn.inference.views import View, Views, list_views, merge_views

PASTE_WORKERS = 2  # threads beside the forward pass; pasting is fast, more of them would only take its cores


class Model(Protocol):
    """The part of `keras.Model` that prediction needs."""

    def predict_on_batch(self, x: Any) -> Any:
        """Returns the outputs of a batch, see MaskRCNN."""
        ...


class Predictor:
    """A trained model with its config, ready to predict images."""

    def __init__(self, model: Model, config: Config) -> None:
        self.model = model
        self.config = config

    @overload
    def predict(
        self,
        source: ImageSource,
        *,
        batch_size: int | None = None,
        tile: int | None = None,
        overlap: float = 0.2,
        augment: bool = False,
    ) -> Detections: ...

    @overload
    def predict(
        self,
        source: Sequence[ImageSource],
        *,
        batch_size: int | None = None,
        tile: int | None = None,
        overlap: float = 0.2,
        augment: bool = False,
    ) -> list[Detections]: ...

    def predict(
        self,
        source: ImageSource | Sequence[ImageSource],
        *,
        batch_size: int | None = None,
        tile: int | None = None,
        overlap: float = 0.2,
        augment: bool = False,
    ) -> Detections | list[Detections]:
        """Returns the detections in an image, or a list of them for a list of images.

        Args:
            source: an image file, a Pillow image, a uint8 array [H, W], [H, W, 1], [H, W, 3] (RGB) or [H, W, 4]
                (RGBA); or a list of these, which is predicted in batches.
            batch_size: images or tiles per batch; None is the config's ``train.eval_batch_size``.
            tile: side of overlapping tiles, px, in which larger images are predicted; None is the whole image.
            overlap: fraction of a tile that the next one repeats.
            augment: whether flipped and scaled images vote too.

        Raises:
            UserError: a file that cannot be read, something that is no image, or a tile size or overlap that makes no
                tiles.
        """
        if not isinstance(source, Sequence) or isinstance(source, str | bytes):
            one: Any = [source]  # what is no image is refused as one
            return self.predict(one, batch_size=batch_size, tile=tile, overlap=overlap, augment=augment)[0]
        size = self.config.train.eval_batch_size if batch_size is None else batch_size
        if not isinstance(size, int | np.integer) or size < 1:
            raise UserError(f"batch_size {size!r}: not a whole number from 1; give the number of images of a batch")
        images = ((number, open_source(image, tiled=tile is not None)) for number, image in enumerate(source))
        detections = dict(self.predict_images(images, Views(tile, overlap, augment), int(size)))
        return [detections[number] for number in range(len(source))]

    def predict_images(
        self, images: Iterable[tuple[int, Pixels]], views: Views, batch_size: int | None = None
    ) -> Iterator[tuple[int, Detections]]:
        """Predicts numbered RGB images; those of another orientation may come later than their turn."""
        size = batch_size or self.config.train.eval_batch_size
        waiting: dict[int, tuple[int, Pixels, list[Tile], list[View]]] = {}  # by the number of the image's last view
        found: dict[int, Detections] = {}  # by number of the view

        def prepared() -> Iterator[tuple[int, Prepared]]:
            number = 0
            for image_id, image in images:
                tiles = tile_grid(image.shape[:2], views)
                shown = list_views(tiles, views)
                waiting[number + len(shown) - 1] = image_id, image, tiles, shown
                for view in shown:
                    yield number, view.prepare(image, self.config.model.image)
                    number += 1

        batches = stack_batches(prepared(), size)
        for number, detections, _ in predict_batches(self.model, batches, self.config.categories):
            found[number] = detections
            last = next(last for last in waiting if last >= number)
            image_id, image, tiles, shown = waiting[last]
            numbers = range(last - len(shown) + 1, last + 1)
            if all(one in found for one in numbers):
                del waiting[last]
                of_tiles = merge_views(tiles, shown, [found.pop(one) for one in numbers])
                yield image_id, self._merge(image, tiles, of_tiles, views, min(size, len(shown)))

    def _merge(
        self, image: Pixels, tiles: list[Tile], found: list[Detections], views: Views, batch_size: int
    ) -> Detections:
        """One result of the tiles of an image, after second looks at what seams cut."""
        image_size = image.shape[:2]
        looks = second_looks(tiles, found, image_size)
        shown = list_views(looks, views)
        prepared = ((number, view.prepare(image, self.config.model.image)) for number, view in enumerate(shown))
        batches = stack_batches(prepared, batch_size, pad=True)
        again = dict(one[:2] for one in predict_batches(self.model, batches, self.config.categories))
        found = found + merge_views(looks, shown, [again[number] for number in range(len(shown))])
        return merge_tiles(tiles + looks, found, image_size, len(looks))


class ImagePrediction(NamedTuple):
    """An image with its detections."""

    image_id: int
    detections: Detections
    image: NDArray[np.uint8]  # [h, w, 3] RGB, resized as the model saw it


def image_batches(
    images: Iterable[tuple[int, NDArray[np.uint8]]], config: ImageConfig, batch_size: int
) -> Iterator[dict[str, NDArray[Any]]]:
    """Groups RGB images with their ids into evaluation batches, see `stack_batches`."""
    return stack_batches(((image_id, prepare(image, config)) for image_id, image in images), batch_size)


def stack_batches(
    images: Iterable[tuple[int, Prepared]], batch_size: int, *, pad: bool = False
) -> Iterator[dict[str, NDArray[Any]]]:
    """Groups images with their ids into evaluation batches, landscape and portrait images apart.

    The last batch of an orientation is padded to the size of those before it, with ``image_valid`` False; with ``pad``,
    if there are none too.
    """
    waiting: dict[tuple[int, ...], list[tuple[int, Prepared]]] = {}
    filled = set()
    for image_id, prepared in images:
        shape = prepared.canvas.shape
        group = waiting.setdefault(shape, [])
        group.append((image_id, prepared))
        if len(group) == batch_size:
            filled.add(shape)
            yield _stack(waiting.pop(shape), batch_size)
    for shape, group in waiting.items():
        yield _stack(group, batch_size if pad or shape in filled else len(group))  # a new size would be compiled anew


def _stack(group: list[tuple[int, Prepared]], size: int) -> dict[str, NDArray[Any]]:
    valid = np.arange(size) < len(group)
    ids, images = zip(*(group + group[-1:] * (size - len(group))), strict=True)
    return {
        "images": np.stack([prepared.canvas for prepared in images]),
        "image_sizes": np.array([prepared.image_size for prepared in images], np.float32),
        "original_sizes": np.array([prepared.original_size for prepared in images], np.int32),
        "image_ids": np.array(ids, np.int64),
        "image_valid": valid,
    }


def predict_batches(
    model: Model, dataset: Iterable[dict[str, Any]], categories: tuple[Category, ...]
) -> Iterator[ImagePrediction]:
    """Predicts evaluation batches and yields the images one by one, in the dataset's order, without padding.

    Threads paste the masks while the model works on the next batch; at most two batches are held.
    """
    with ThreadPoolExecutor(PASTE_WORKERS, thread_name_prefix="paste") as workers:
        waiting: deque[Future[ImagePrediction]] = deque()
        for batch in dataset:
            arrays = {name: np.asarray(value) for name, value in batch.items()}
            outputs = model.predict_on_batch({name: arrays[name] for name in ("images", "image_sizes")})
            outputs = {name: np.asarray(value) for name, value in outputs.items()}
            while waiting:  # the batch before this one
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


def open_source(image: ImageSource, *, tiled: bool) -> Pixels:
    """The pixels of an image, see `read_source`; files that are cut into tiles may be larger.

    Raises:
        UserError: see `read_source`.
    """
    return LargeImage(image) if tiled and isinstance(image, str | Path) else read_source(image)
