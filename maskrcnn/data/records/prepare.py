"""One image with its objects, read, verified and rasterized: what a record holds."""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from maskrcnn.data.coco.annotations import Annotation, CocoDataset
from maskrcnn.data.coco.images import ImageEntry
from maskrcnn.data.coco.problems import Problem
from maskrcnn.data.records.rasterize import frame_mask
from maskrcnn.data.records.stored_images import StoredImage, WrongSizeError, store_image
from maskrcnn.errors import UserError

T = TypeVar("T")

LOOKAHEAD = 16  # images in flight for each thread: bounds the memory


@dataclass(frozen=True)
class PreparedImage:
    """An image and its objects, ready to be written to a record."""

    entry: ImageEntry
    stored: StoredImage
    annotations: tuple[Annotation, ...]
    masks: list[np.ndarray]  # of the annotations, bool [MASK_SIZE, MASK_SIZE]


def prepare_image(dataset: CocoDataset, entry: ImageEntry) -> tuple[PreparedImage | None, list[Problem]]:
    """An image ready to be written, without the annotations that cannot be used; None if the image cannot."""
    path = dataset.image_dir / entry.file_name
    try:
        stored = store_image(path, entry.height, entry.width)
    except UserError as error:
        kind = "wrong image size" if isinstance(error, WrongSizeError) else "damaged image"
        return None, [Problem(kind, path, f"image {entry.id}", str(error).removeprefix(f"{path}: "))]
    problems, usable, masks = [], [], []
    for annotation in dataset.annotations.get(entry.id, ()):
        try:
            mask = frame_mask(annotation, entry.height, entry.width)
        except ValueError as error:
            text = f"mask cannot be decoded ({error})"
            problems.append(Problem("bad RLE", dataset.path, f"annotation {annotation.id}", text))
            continue
        usable.append(annotation)
        masks.append(mask)
    return PreparedImage(entry, stored, tuple(usable), masks), problems


def prepare_images(
    dataset: CocoDataset, images: Iterable[ImageEntry], *, finish: Callable[[PreparedImage], T]
) -> Iterator[tuple[list[Problem], T | None]]:
    """The images in order, each with its problems, prepared and finished by threads; None for one that cannot be used.

    Threads suffice, since Pillow and pycocotools release the GIL.
    """

    def work(entry: ImageEntry) -> tuple[list[Problem], T | None]:
        image, problems = prepare_image(dataset, entry)
        return problems, None if image is None else finish(image)

    workers = os.cpu_count() or 1
    with ThreadPoolExecutor(workers) as pool:
        waiting: deque[Future[tuple[list[Problem], T | None]]] = deque()
        try:
            for entry in images:
                waiting.append(pool.submit(work, entry))
                if len(waiting) >= workers * LOOKAHEAD:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)
