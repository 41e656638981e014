"""An image on its way to the files."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from maskrcnn.imaging.large_image import Pixels

if TYPE_CHECKING:
    from maskrcnn.inference.detections import Detections


@dataclass(frozen=True)
class Item:
    """An image or a frame of a video, and its detections."""

    image_id: int
    name: str  # of its files, without suffix; no other image has it
    file: str  # path or address, as it was given
    detections: "Detections"
    pixels: Callable[[], Pixels]
    extra: dict[str, Any] = field(default_factory=dict)  # further fields of its results, such as the number of a frame


Writer = Callable[[Item], None]
