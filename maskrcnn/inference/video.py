"""Videos, cameras and streams in; videos with the same times and the same sound out. PyAV reads and writes them."""

import contextlib
import logging
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from maskrcnn.errors import UserError
from maskrcnn.inference.inputs import is_live
from maskrcnn.inference.live import Newest, interruptible
from maskrcnn.input_files import open_regular
from maskrcnn.runtime.extras import import_extra
from maskrcnn.runtime.files import replacing

MP4_AUDIO = ("aac", "mp3", "ac3", "eac3", "alac", "opus", "flac")  # MP4 holds these; Matroska holds any
CLOCK = Fraction(1, 90_000)  # s, the unit of times in videos
DEFAULT_RATE = Fraction(25)  # of streams that do not say
TIMEOUT = 30.0  # s without data from a camera or stream
# FFmpeg also knows playlists, which name other files and addresses, under any suffix
FILE_OPTIONS = {"protocol_whitelist": "file", "format_whitelist": "mov,matroska,avi,mpeg,mpegvideo,mpegts,asf,flv,ogg"}
H264 = {"crf": "20", "preset": "veryfast"}

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Frame:
    """A decoded frame."""

    number: int  # from 1, counting frames that are skipped
    time_s: float  # from the start of the video
    pixels: NDArray[np.uint8]  # [H, W, 3] RGB, upright


@dataclass
class VideoReader:
    """An open video."""

    name: str
    container: Any
    broken: int = 0  # frames and packets that could not be decoded
    on_sound: Callable[[Any], None] | None = None  # gets the packets of the sound before the next frame
    _sound_packets: deque[Any] = field(default_factory=deque)
    _newest: Newest[tuple[int, float, Any]] | None = None

    @property
    def dropped(self) -> int:
        """The number of frames that came faster than they were asked for."""
        return self._newest.dropped if self._newest else 0

    @property
    def rate(self) -> Fraction:
        """Frames per second."""
        return self._stream.average_rate or self._stream.guessed_rate or DEFAULT_RATE

    @property
    def total(self) -> int | None:
        """The number of frames, as far as the file tells."""
        if self._stream.frames:
            return int(self._stream.frames)
        duration = self.container.duration
        return round(duration / 1e6 * self.rate) if duration and not is_live(self.name) else None

    @property
    def sound(self) -> Any:
        """The stream of the sound; None without one."""
        return next((stream for stream in self.container.streams.audio if stream.codec_context), None)

    @property
    def start(self) -> Fraction:
        """When the video starts on its own clock, s."""
        return Fraction(self.container.start_time or 0, 1_000_000)

    @property
    def _stream(self) -> Any:
        return self.container.streams.video[0]

    def frames(self, every: int, stopped: Callable[[], bool]) -> Iterator[Frame]:
        """Decodes every N-th frame, until the end or until ``stopped``; broken ones are counted and skipped.

        Those of a camera or stream that come faster than they are asked for are skipped and counted, too.
        """
        numbered = self._numbered(every)
        if is_live(self.name):
            numbered = self._newest = Newest(numbered, stopped)
        for number, time_s, frame in numbered:
            if stopped():
                return
            self._give_sound()
            pixels = np.rot90(frame.to_ndarray(format="rgb24"), round(frame.rotation / 90))
            yield Frame(number, time_s, np.ascontiguousarray(pixels))
        self._give_sound()

    def close(self) -> None:
        """Closes the video, unless a thread still waits for its data: that one ends with the program."""
        if self._newest is None or self._newest.close():
            self.container.close()

    def _give_sound(self) -> None:
        while self._sound_packets:
            packet = self._sound_packets.popleft()
            if self.on_sound:
                self.on_sound(packet)

    def _numbered(self, every: int) -> Iterator[tuple[int, float, Any]]:
        """Every N-th frame with its number and time, s."""
        time_s = -float("inf")
        for number, frame in enumerate(self._decode(), start=1):
            expected = time_s + float(1 / self.rate) if number > 1 else 0.0
            given = float(frame.time - self.start) if frame.time is not None else expected
            time_s = given if given > time_s else expected  # cameras have clocks that stand still
            if (number - 1) % every == 0:
                yield number, time_s, frame

    def _decode(self) -> Iterator[Any]:
        errors = import_extra("av").FFmpegError
        packets = self.container.demux([stream for stream in (self._stream, self.sound) if stream])
        while True:
            try:
                packet = next(packets)
                if packet.stream is not self._stream:
                    if packet.dts is not None:
                        self._sound_packets.append(packet)
                    continue
                decoded = packet.decode()
            except StopIteration:
                return
            except errors as error:
                if isinstance(error, import_extra("av.error").ExitError):
                    logger.warning("%s: no data for %g s; taken for the end of the stream", self.name, TIMEOUT)
                    return
                self.broken += 1
                if isinstance(error, import_extra("av").EOFError | OSError):  # no more packets will come
                    return
                continue
            for frame in decoded:
                if frame.is_corrupt:
                    self.broken += 1
                else:
                    yield frame


@contextlib.contextmanager
def reading_video(name: str, path: Path) -> Iterator[VideoReader]:
    """Opens a video file, a stream by its address, or a camera by its number.

    Raises:
        UserError: PyAV is not installed, or there is no such video.
    """
    av = import_extra("av")
    options: dict[str, Any] = {"container_options": FILE_OPTIONS}
    source = str(path)
    if not is_live(name):
        open_regular(path).close()  # FFmpeg would wait for a pipe
    else:
        source, options = (f"/dev/video{name}", {"format": "v4l2"}) if name.isdecimal() else (name, {})
        options["timeout"] = TIMEOUT
        if name.startswith("rtsp"):
            options["options"] = {"rtsp_transport": "tcp"}
    try:
        container = interruptible(lambda: av.open(source, **options))
    except (av.FFmpegError, OSError, ValueError) as error:
        silent = isinstance(error, import_extra("av.error").ExitError)
        reason = f"no data within {TIMEOUT:g} s" if silent else getattr(error, "strerror", None) or error
        raise UserError(f"{name}: cannot be opened as a video ({reason}); check the file or address") from error
    with contextlib.closing(VideoReader(name, container)) as reader:
        video = next(iter(container.streams.video), None)
        if video is None or not video.codec_context or min(video.width, video.height) == 1:
            raise UserError(f"{name}: has no video stream that can be decoded and written again; give a video")
        video.thread_type = "AUTO"
        yield reader


@dataclass
class VideoWriter:
    """A video that is being written; its streams are made at the first frame, when the size is known."""

    container: Any
    reader: VideoReader
    stream: Any = field(default=None, init=False)
    sound: Any = field(default=None, init=False)
    early: list[Any] = field(default_factory=list)  # packets of sound before the first frame
    last: int = -1  # time of the last frame in CLOCK units

    def add(self, frame: Frame, pixels: NDArray[np.uint8]) -> None:
        """Appends a frame with the time of the one that it was drawn on."""
        av = import_extra("av")
        height, width = (side - side % 2 for side in pixels.shape[:2])  # H.264 has an even number of rows and columns
        if not self.stream:
            self._open(height, width)
        image = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels[:height, :width]), format="rgb24")
        self.last = image.pts = max(round(frame.time_s / CLOCK), self.last + 1)
        image.time_base = CLOCK
        self.container.mux(self.stream.encode(image))

    def add_sound(self, packet: Any) -> None:
        """Appends a packet of sound as it is."""
        if self.stream is None:
            self.early.append(packet)
            return
        offset = round(self.reader.start / packet.time_base)
        packet.pts, packet.dts = (None if t is None else t - offset for t in (packet.pts, packet.dts))
        packet.stream = self.sound
        self.container.mux(packet)

    def finish(self) -> None:
        """Writes the frames that the encoder still holds."""
        if self.stream is not None:
            self.container.mux(self.stream.encode(None))

    def _open(self, height: int, width: int) -> None:
        codec = "libx264" if "libx264" in import_extra("av").codecs_available else "mpeg4"
        stream = self.container.add_stream(codec, rate=self.reader.rate, options=H264 if codec == "libx264" else {})
        stream.height, stream.width, stream.pix_fmt = height, width, "yuv420p"
        stream.codec_context.time_base = CLOCK
        self.stream = stream
        if self.reader.sound is not None:
            self.sound = self.container.add_stream_from_template(self.reader.sound)
            for packet in self.early:
                self.add_sound(packet)
            self.early.clear()


@contextlib.contextmanager
def writing_video(stem: Path, reader: VideoReader) -> Iterator[VideoWriter]:
    """Gives a writer of ``STEM.mp4`` (``.mkv`` if the sound needs it), which appears once it is complete.

    Raises:
        UserError: it would replace the video that is read.
    """
    av = import_extra("av")
    sound = reader.sound
    path = stem.with_name(f"{stem.name}{'.mp4' if sound is None or sound.codec.name in MP4_AUDIO else '.mkv'}")
    if path.exists() and Path(reader.name).exists() and path.samefile(reader.name):
        raise UserError(f"{path}: the drawn video would replace it; choose another --out_dir")
    with replacing(path) as temporary:
        with av.open(str(temporary), "w") as container:
            writer = VideoWriter(container, reader)
            if sound is not None:
                reader.on_sound = writer.add_sound
            yield writer
            writer.finish()
        if not temporary.exists():
            raise UserError(f"{reader.name}: no frame can be decoded; check the video")
