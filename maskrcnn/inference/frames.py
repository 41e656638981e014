"""Predicts the frames of a video and writes them, drawn, as a video with the same sound."""

import contextlib
import itertools
import logging
import signal
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

from maskrcnn.errors import UserError
from maskrcnn.inference.detections import Detections
from maskrcnn.inference.inputs import is_live
from maskrcnn.inference.outputs import FRAME_FORMATS
from maskrcnn.inference.outputs.drawn import draw_item
from maskrcnn.inference.outputs.item import Item, Writer
from maskrcnn.inference.outputs.writers import Saving
from maskrcnn.inference.predictor import Predictor
from maskrcnn.inference.tracking import Tracker, TrackFile, track_path
from maskrcnn.inference.video import Frame, VideoReader, reading_video, writing_video
from maskrcnn.inference.views import Views
from maskrcnn.runtime.files import replacing

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class VideoOptions:
    """How videos are predicted."""

    every: int = 1  # only every N-th frame is predicted and written
    track: bool = False  # whether objects get ids
    max_frames: int | None = None  # of each video, that are predicted; None is all

    def __post_init__(self) -> None:
        for name in ("every", "max_frames"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UserError(f"--{name} {value}: expected a number of frames, at least 1")


@dataclass(frozen=True)
class Video:
    """A video to predict."""

    source: str  # path, address or camera number, as it was given
    path: Path  # the file, where it is one
    name: str  # of its files, without suffix
    first_id: int  # image id of its first frame


class FrameWriter:
    """Writes the frames of a video in all chosen forms."""

    def __init__(self, video: Video, saving: Saving, add: Writer, stack: contextlib.ExitStack) -> None:
        self._video, self._saving, self._add, self._stack = video, saving, add, stack
        self.count = 0
        self._write_drawn: Callable[[Frame, np.ndarray], None] | None = None
        self._tracks: TrackFile | None = None

    def open(self, reader: VideoReader, *, track: bool) -> None:
        """Opens the drawn video and the file of tracks, if they are wanted."""
        out_dir, name = self._saving.out_dir, self._video.name
        if "drawn" in self._saving.formats:
            self._write_drawn = self._stack.enter_context(writing_video(out_dir / name, reader)).add
        if track:
            path = self._stack.enter_context(replacing(track_path(out_dir, name)))
            self._tracks = TrackFile(self._stack.enter_context(path.open("w", encoding="utf-8")))

    def write(self, frame: Frame, found: Detections) -> None:
        """Writes a frame with its detections."""
        found, name = self._saving.selected(found), f"{self._video.name}_{frame.number:06d}"
        image_file = ""
        if FRAME_FORMATS & set(self._saving.formats):
            image_file = str(self._saving.out_dir / "frames" / f"{name}.jpg")
            with replacing(Path(image_file)) as path:
                Image.fromarray(frame.pixels).save(path, quality=95)
        extra = {"frame": frame.number, "time_s": round(frame.time_s, 3)}
        item = Item(
            self._video.first_id + self.count,
            name,
            self._video.source,
            found,
            lambda: frame.pixels,
            extra=extra,
            image_file=image_file,
        )
        self._add(item)
        if self._write_drawn:
            self._write_drawn(frame, np.asarray(draw_item(item.above(self._saving.score_threshold))))
        if self._tracks:
            self._tracks.add(frame.number, found)
        self.count += 1


def infer_video(
    predictor: Predictor, video: Video, saving: Saving, add: Writer, chosen: VideoOptions, views: Views
) -> tuple[int, int]:
    """Predicts a video until its end, or until Ctrl-C; what was written by then is complete.

    Returns:
        The numbers of frames that were predicted, and of broken ones.

    Raises:
        UserError: the video cannot be opened, or none of its frames decoded.
        KeyboardInterrupt: a video file was interrupted; to interrupt a camera or stream is the way to end it.
    """
    live = is_live(video.source)
    with contextlib.ExitStack() as stack:
        reader = stack.enter_context(reading_video(video.source, video.path))
        stopped = stack.enter_context(stopping())
        writer = FrameWriter(video, saving, add, stack)
        writer.open(reader, track=chosen.track)
        tracker = Tracker(float(reader.rate) / chosen.every, saving.score_threshold) if chosen.track else None
        waiting: dict[int, Frame] = {}  # that are being predicted

        def read() -> Iterator[tuple[int, np.ndarray]]:
            for frame in itertools.islice(reader.frames(chosen.every, stopped.is_set), chosen.max_frames):
                waiting[frame.number] = frame
                yield frame.number, frame.pixels

        lengths = [reader.total and -(-reader.total // chosen.every), chosen.max_frames]
        total = min(filter(None, lengths), default=None)
        predicted = predictor.predict_images(read(), views, 1 if live else None)
        for number, found in tqdm(predicted, video.name, total, unit="frame"):
            writer.write(waiting.pop(number), tracker.update(found) if tracker else found)
        if stopped.is_set() and not writer.count:
            raise KeyboardInterrupt
    if reader.dropped:
        logger.warning(
            "%s: %d frames were predicted; %d came too fast for the model and were skipped",
            video.source,
            writer.count,
            reader.dropped,
        )
    if not writer.count:
        raise UserError(f"{video.source}: no frame can be decoded; check the video")
    if stopped.is_set() and not live:
        logger.info("stopped after %d frames; what was written so far is complete", writer.count)
        raise KeyboardInterrupt
    return writer.count, reader.broken


@contextlib.contextmanager
def stopping() -> Iterator[threading.Event]:
    """Gives an event that the first Ctrl-C sets; the second one interrupts as usual."""
    stopped = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stopped
        return

    def stop(*_: object) -> None:
        if stopped.is_set():
            raise KeyboardInterrupt
        stopped.set()

    before = signal.signal(signal.SIGINT, stop)
    try:
        yield stopped
    finally:
        signal.signal(signal.SIGINT, before)
