"""The views of an image that the model gets: the whole, tiles, flipped, in other sizes; and one result from them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from maskrcnn.config import CANVAS_STRIDE, ImageConfig
from maskrcnn.errors import UserError
from maskrcnn.imaging.canvas import Prepared, prepare
from maskrcnn.imaging.large_image import Pixels
from maskrcnn.inference.detections import Detections
from maskrcnn.inference.test_time_augmentation import merge_variants, mirrored
from maskrcnn.inference.tile_merging import Tile

SCALES = (0.8, 1.0, 1.25)  # of test-time augmentation, each with and without a flip


@dataclass(frozen=True)
class Views:
    """How an image is shown to the model."""

    tile: int | None = None  # side of the tiles, px; None is the whole image
    overlap: float = 0.2  # fraction of a tile that the next one repeats
    augment: bool = False  # flips and scales, merged

    def __post_init__(self) -> None:
        if self.tile is not None and self.tile < CANVAS_STRIDE:
            raise UserError(f"--tile {self.tile}: tiles have at least {CANVAS_STRIDE} px")
        if not 0 <= self.overlap <= 0.9:
            raise UserError(f"--overlap {self.overlap:g}: expected a fraction from 0 to 0.9")


@dataclass(frozen=True)
class View:
    """One of the views of an image."""

    tile: Tile
    scale: float = 1.0
    flip: bool = False

    def prepare(self, image: Pixels, config: ImageConfig) -> Prepared:
        """The view as the model receives it."""
        left, top, right, bottom = self.tile
        pixels = np.asarray(image[top:bottom, left:right])
        sides = {name: round(getattr(config, name) * self.scale) for name in ("min_side", "max_side")}
        return prepare(pixels[:, ::-1] if self.flip else pixels, replace(config, **sides))


def list_views(tiles: Sequence[Tile], views: Views) -> list[View]:
    """The views of the tiles of an image, tile by tile."""
    variants = [(scale, flip) for scale in SCALES for flip in (False, True)] if views.augment else [(1.0, False)]
    return [View(tile, *variant) for tile in tiles for variant in variants]


def merge_views(tiles: Sequence[Tile], views: Sequence[View], found: Sequence[Detections]) -> list[Detections]:
    """One result for each tile of the detections in all views, each in the pixels of its tile."""
    return [merge_variants(list(_of_tile(tile, views, found))) for tile in tiles]


def _of_tile(tile: Tile, views: Sequence[View], found: Sequence[Detections]) -> Iterator[Detections]:
    for view, detections in zip(views, found, strict=True):
        if view.tile == tile:
            yield mirrored(detections) if view.flip else detections
