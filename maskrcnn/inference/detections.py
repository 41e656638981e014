"""The detections in one image, in that image's own pixels."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from maskrcnn.config import Category
from maskrcnn.errors import UserError, expect
from maskrcnn.imaging.draw import Instance, color_of, draw_instances
from maskrcnn.imaging.mask_paste import RLE, decode_rles, paste_and_encode
from maskrcnn.imaging.polygons import Polygon
from maskrcnn.imaging.read import load_image, reading, to_rgb, turn_upright
from maskrcnn.imaging.rle_crop import decode_crop, mask_place
from maskrcnn.inference.outputs import conversions
from maskrcnn.inference.outputs.writers import Item, Saving, writing_outputs
from maskrcnn.input_files import as_path

Outputs = dict[str, NDArray[Any]]  # the model's outputs, see MaskRCNN
CHANNELS = ((), (1,), (3,), (4,))  # the part of an array's shape after height and width
Object = tuple[NDArray[np.float32], int, float, RLE]  # box, class index, score, mask
ImageSource = str | Path | Image.Image | NDArray[np.uint8]


@dataclass(frozen=True, repr=False)
class Detections:
    """The K detections in one image, in descending order of score."""

    boxes: NDArray[np.float32]  # [K, 4] xyxy, px of the image
    classes: NDArray[np.int32]  # [K] class indices, see Category
    scores: NDArray[np.float32]  # [K] from 0 to 1
    rles: list[RLE]  # [K] masks as COCO run-length codes, counts as bytes
    image_size: tuple[int, int]  # height and width of the image, px
    categories: tuple[Category, ...]
    track_ids: NDArray[np.int64] | None = None  # [K] the same for an object in all frames of a video, from 1

    def __len__(self) -> int:
        return len(self.scores)

    def __repr__(self) -> str:
        found = ", ".join(f"{name} {score:.2f}" for name, score in zip(self.names[:5], self.scores, strict=False))
        more = ", ..." if len(self) > 5 else ""
        height, width = self.image_size
        return f"Detections({len(self)} in {width}x{height} px{': ' if found else ''}{found}{more})"

    @property
    def masks(self) -> NDArray[np.bool_]:
        """The masks [K, H, W], decoded anew at each access."""
        return decode_rles(self.rles, *self.image_size)

    @property
    def names(self) -> list[str]:
        """The category names [K]."""
        known = {category.index: category.name for category in self.categories}
        return [known.get(int(index), f"class {index}") for index in self.classes]

    def above(self, score_threshold: float) -> "Detections":
        """The detections with at least this score."""
        return self.select(np.nonzero(self.scores >= score_threshold)[0])

    def of_classes(self, names: Collection[str]) -> "Detections":
        """The detections of the categories with these names."""
        return self.select(np.array([i for i, name in enumerate(self.names) if name in names], np.intp))

    def select(self, indices: NDArray[np.intp]) -> "Detections":
        """The detections at these indices."""
        return Detections(
            self.boxes[indices],
            self.classes[indices],
            self.scores[indices],
            [self.rles[i] for i in indices],
            self.image_size,
            self.categories,
            None if self.track_ids is None else self.track_ids[indices],
        )

    def to_polygons(self, tolerance: float | None = None) -> list[list[Polygon]]:
        """The polygons [N, 2] of each detection in px, one for each connected part; see `trace_polygons`."""
        return conversions.to_polygons(self, tolerance)

    def to_supervision(self) -> Any:
        """The detections as ``supervision.Detections``; ``class_id`` counts from 0 and ``data`` has ``class_name``.

        Raises:
            UserError: supervision is not installed.
        """
        return conversions.to_supervision(self)

    def to_dataframe(self) -> Any:
        """The detections as a pandas DataFrame, a row each: class, score, box, area and track id.

        Raises:
            UserError: pandas is not installed.
        """
        return conversions.to_dataframe(self)

    def to_masks_png(self, folder: str | Path, name: str) -> list[Path]:
        """Writes the masks as ``FOLDER/CLASS/NAME_object_I.png``, 255 inside and 0 outside, and returns the files."""
        return conversions.write_masks(self, Path(folder), name)

    def crop(self, image: ImageSource, *, padding: int = 0, masked: bool = False) -> list[Image.Image]:
        """The part of an image inside each box.

        Args:
            image: the image that they were found in, see `read_source`.
            padding: px added on each side, within the image.
            masked: whether pixels outside the mask become transparent.

        Raises:
            UserError: see `read_source`.
        """
        return conversions.crop(self, read_source(image), padding, masked=masked)

    def save(
        self,
        out_dir: str | Path,
        image: ImageSource,
        formats: Sequence[str] = ("drawn",),
        *,
        score_threshold: float = 0.5,
        name: str | None = None,
    ) -> None:
        """Writes the files of ``maskrcnn infer --save`` for this one image.

        Args:
            out_dir: folder for the files.
            image: the image that they were found in, see `read_source`.
            formats: any of coco, masks, polygons, labelme, yolo, csv, crops and drawn.
            score_threshold: lowest score that is written; predictions.json has all detections.
            name: of the files, without suffix; None is that of the image file.

        Raises:
            UserError: an unknown format, see `read_source`, or the folder cannot be written.
        """
        file = str(image) if isinstance(image, str | Path) else f"{name or 'image'}.png"
        item = Item(1, name or Path(file).stem, file, self, lambda: read_source(image))
        formats = tuple(expect(formats, list | tuple, "formats"))
        with writing_outputs(Saving(as_path(out_dir), formats, score_threshold), self.categories) as add:
            add(item)

    def to_coco(self, image_id: int) -> list[dict[str, Any]]:
        """The detections as entries of a COCO results list, ready for JSON; classes without a category are omitted."""
        categories = {category.index: category for category in self.categories}
        results = []
        tracks = [{}] * len(self) if self.track_ids is None else [{"track_id": int(one)} for one in self.track_ids]
        for i, (box, index, rle) in enumerate(zip(self.boxes.tolist(), self.classes, self.rles, strict=True)):
            category = categories.get(int(index))
            if category is not None:
                x1, y1, x2, y2 = (round(value, 3) for value in box)
                results.append(
                    {
                        "image_id": image_id,
                        "category_id": category.id,
                        "category_name": category.name,
                        "bbox": [x1, y1, round(x2 - x1, 3), round(y2 - y1, 3)],
                        "score": round(float(self.scores[i]), 6),
                        "segmentation": {"size": list(rle["size"]), "counts": rle["counts"].decode("ascii")},
                        **tracks[i],
                    }
                )
        return results

    def draw(
        self,
        image: ImageSource,
        score_threshold: float = 0.5,
        *,
        scale: float = 1.0,
        color_by: Literal["instance", "class"] = "instance",
        with_scores: bool = True,
    ) -> Image.Image:
        """Draws the detections with at least a score onto the image that they were found in.

        Args:
            image: see `read_source`.
            score_threshold: lowest score that is drawn.
            scale: enlargement of the image, but not of lines and letters.
            color_by: a color for each instance, or one for all of a class.
            with_scores: whether labels have the score behind the name.

        Raises:
            UserError: see `read_source`.
        """
        pixels = read_source(image)
        shown = self.above(score_threshold)
        return draw_instances(pixels, shown.instances(color_by, with_scores=with_scores), scale=scale)

    def instances(
        self, color_by: Literal["instance", "class"] = "instance", *, with_scores: bool = True
    ) -> list[Instance]:
        """The detections as `draw_instances` takes them; see `draw`."""
        numbers = range(len(self)) if self.track_ids is None else self.track_ids.tolist()
        instances = []
        for i, (name, score) in enumerate(zip(self.names, self.scores, strict=True)):
            place = mask_place(self.rles[i])
            color = color_of(numbers[i] if color_by == "instance" else int(self.classes[i]) - 1)
            label = f"{name} {score:.2f}" if with_scores else name
            label = f"#{numbers[i]} {label}" if self.track_ids is not None and numbers[i] > 0 else label
            instances.append(Instance(self.boxes[i], decode_crop(self.rles[i], place), label, color, place[:2]))
        return instances


def collect(objects: Sequence[Object], image_size: tuple[int, int], categories: tuple[Category, ...]) -> Detections:
    """Single objects as the detections of an image, in descending order of score."""
    ordered = sorted(objects, key=lambda one: -one[2])
    return Detections(
        np.array([box for box, *_ in ordered], np.float32).reshape(-1, 4),
        np.array([index for _, index, *_ in ordered], np.int32),
        np.array([score for *_, score, _ in ordered], np.float32),
        [rle for *_, rle in ordered],
        image_size,
        categories,
    )


def together(found: Sequence[Detections]) -> tuple[NDArray[np.intp], NDArray, NDArray, NDArray, list[RLE]]:
    """All detections of several: [K] which of these each is of, boxes [K, 4], classes [K], scores [K] and masks [K]."""
    number = np.repeat(np.arange(len(found)), [len(one) for one in found])
    boxes, classes, scores = (
        np.concatenate([getattr(one, name) for one in found]) for name in ("boxes", "classes", "scores")
    )
    return number, boxes, classes, scores, [rle for one in found for rle in one.rles]


def read_source(image: ImageSource) -> NDArray[np.uint8]:
    """Returns RGB pixels [H, W, 3] of an image file, a Pillow image, or an array.

    Arrays are uint8 of shape [H, W], [H, W, 1] (gray), [H, W, 3] (RGB) or [H, W, 4] (RGBA).

    Raises:
        UserError: a file that cannot be read, or an array of another shape or type.
    """
    if isinstance(image, str | Path):
        return load_image(image)
    if isinstance(image, Image.Image):
        path = Path(getattr(image, "filename", "") or "image")
        with reading(path):
            return to_rgb(turn_upright(image), path)
    if not isinstance(image, np.ndarray):
        raise UserError(
            f"{type(image).__name__} is no image; give a path, a Pillow image or a uint8 array, or a list of them"
        )
    if image.dtype != np.uint8 or not image.size or image.ndim not in (2, 3) or image.shape[2:] not in CHANNELS:
        raise UserError(
            f"image array {image.shape} of {image.dtype}: expected uint8 of [height, width], "
            "or [height, width, channels] with 1 (gray), 3 (RGB) or 4 (RGBA) channels"
        )
    if image.ndim == 2 or image.shape[2] == 1:
        return np.repeat(image.reshape(*image.shape[:2], 1), 3, axis=2)
    return image[..., :3]


def to_original(
    outputs: Outputs,
    image_size: tuple[float, float],
    original_size: tuple[int, int],
    categories: tuple[Category, ...],
) -> Detections:
    """Converts the model's outputs for one image to detections in that image's own pixels.

    Args:
        outputs: boxes [D, 4] in canvas pixels, classes [D], scores [D], masks [D, M, M], valid [D].
        image_size: height and width of the image on the canvas.
        original_size: height and width of the image itself.
        categories: the categories of the classes.
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
