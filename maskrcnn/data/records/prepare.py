"""One image with its objects, read, verified and rasterized: what a record holds. Also the full check of a dataset."""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
from tqdm import tqdm

from maskrcnn.data.coco.annotations import Annotation, CocoDataset, Fault, ImageEntry, scan_coco
from maskrcnn.data.records.rasterize import frame_mask
from maskrcnn.data.records.stored_images import StoredImage, store_image

T = TypeVar("T")

LOOKAHEAD = 16  # images in flight for each thread: bounds the memory


@dataclass(frozen=True)
class PreparedImage:
    entry: ImageEntry
    stored: StoredImage
    annotations: tuple[Annotation, ...]
    masks: list[np.ndarray]  # of the annotations, bool [MASK_SIZE, MASK_SIZE]


def prepare_image(dataset: CocoDataset, entry: ImageEntry) -> tuple[PreparedImage | None, list[Fault]]:
    """An image ready to be written, without its faulty annotations; None if the image itself is faulty."""
    path = dataset.image_dir / entry.file_name
    try:
        stored = store_image(path, entry.height, entry.width)
    except ValueError as error:
        return None, [Fault(path, f"image {entry.id}", str(error))]
    faults, sound, masks = [], [], []
    for annotation in dataset.annotations.get(entry.id, ()):
        try:
            mask = frame_mask(annotation, entry.height, entry.width)
        except ValueError as error:
            faults.append(Fault(dataset.path, f"annotation {annotation.id}", f"mask cannot be decoded ({error})"))
            continue
        sound.append(annotation)
        masks.append(mask)
    return PreparedImage(entry, stored, tuple(sound), masks), faults


def prepare_images(
    dataset: CocoDataset, images: Iterable[ImageEntry], *, finish: Callable[[PreparedImage], T]
) -> Iterator[tuple[list[Fault], T | None]]:
    """The images in order, each with its faults, prepared and finished by threads; None for a faulty image.

    Threads do, since Pillow and pycocotools let go of the interpreter lock.
    """

    def work(entry: ImageEntry) -> tuple[list[Fault], T | None]:
        image, faults = prepare_image(dataset, entry)
        return faults, None if image is None else finish(image)

    workers = os.cpu_count() or 1
    with ThreadPoolExecutor(workers) as pool:
        waiting: deque[Future[tuple[list[Fault], T | None]]] = deque()
        try:
            for entry in images:
                waiting.append(pool.submit(work, entry))
                if len(waiting) >= workers * LOOKAHEAD:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)


def check_coco(annotation_file: str | Path, image_dir: str | Path, *, progress: bool = True) -> list[Fault]:
    """All faults of a dataset, those of the image files included.

    Raises:
        UserError: the annotation file is not COCO JSON.
    """
    dataset, faults = scan_coco(annotation_file, image_dir)
    prepared = prepare_images(dataset, dataset.images, finish=lambda image: None)
    description = f"checking {Path(annotation_file).name}"
    for found, _ in tqdm(prepared, desc=description, total=len(dataset.images), unit=" images", disable=not progress):
        faults += found
    return faults
