"""An image on its way to the files."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from maskrcnn.imaging.large_image import Pixels
from maskrcnn.input_files import as_text

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
    extra: dict[str, Any] = field(default_factory=dict)  # further fields of its results: number and time of a frame
    image_file: str = ""  # of a frame, if it was saved as an image

    @property
    def listed_file(self) -> str:
        """The image's file as results name it: in Unicode, which JSON must be."""
        return as_text(self.image_file or self.file or f"{self.name}.png")

    def above(self, score_threshold: float) -> "Item":
        """The item with its detections of at least this score."""
        return replace(self, detections=self.detections.above(score_threshold))


Writer = Callable[[Item], None]
