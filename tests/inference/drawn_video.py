"""Videos that tests draw: gray disks on known paths, with a tone."""

import math
from fractions import Fraction

import numpy as np

HEIGHT, WIDTH, RATE, SOUND_RATE = 96, 128, 10, 16_000
PATHS = {  # gray: center of a disk of radius 9 at frame t of 60; the light ones cross at frame 30
    150: lambda t: (12 + 104 * t / 60, 40 + 8 * t / 60),
    230: lambda t: (116 - 104 * t / 60, 48 + 8 * t / 60),
    60: lambda t: (64 + 40 * math.cos(t / 20), 80),
}


def draw_frame(t):
    rows, columns = np.ogrid[:HEIGHT, :WIDTH]
    gray = np.zeros((HEIGHT, WIDTH), np.uint8)
    for value, path in PATHS.items():
        x, y = path(t)
        gray[np.hypot(columns + 0.5 - x, rows + 0.5 - y) <= 9] = value
    return np.repeat(gray[..., None], 3, axis=2)


def write_video(path, frames=60, *, sound="aac", rate=RATE):
    """Draws a video without loss, with a tone as long as it."""
    import av

    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=rate, options={"qp": "0", "g": "10"})
        video.width, video.height, video.pix_fmt = WIDTH, HEIGHT, "yuv444p"
        audio = container.add_stream(sound, rate=SOUND_RATE) if sound else None
        for t in range(frames):
            container.mux(video.encode(av.VideoFrame.from_ndarray(draw_frame(t), format="rgb24")))
            if audio:
                count = SOUND_RATE // rate
                wave = np.sin(np.arange(t * count, (t + 1) * count) * 2 * np.pi * 440 / SOUND_RATE) * 8000
                part = av.AudioFrame.from_ndarray(wave.astype(np.int16)[None], format="s16", layout="mono")
                part.sample_rate, part.time_base, part.pts = SOUND_RATE, Fraction(1, SOUND_RATE), t * count
                container.mux(audio.encode(part))
        for stream in filter(None, (video, audio)):
            container.mux(stream.encode(None))
    return path


def read_video(path):
    """Rate, times and frames of a video, and the number of its samples of sound."""
    import av

    with av.open(str(path)) as container:
        rate = container.streams.video[0].average_rate
        times, frames, samples = [], [], 0
        for frame in container.decode():
            if isinstance(frame, av.VideoFrame):
                times.append(frame.time)
                frames.append(frame.to_ndarray(format="rgb24"))
            else:
                samples += frame.samples
    return rate, times, frames, samples
