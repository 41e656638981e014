"""Streams are predicted frame by frame as they come: the newest is taken, the others are counted."""

import contextlib
import io
import json
import signal
import socket
import threading

import numpy as np
import pytest

pytest.importorskip("av")

from maskrcnn.errors import UserError
from maskrcnn.inference import video
from maskrcnn.inference.frames import VideoOptions
from maskrcnn.inference.inputs import find_inputs
from maskrcnn.inference.live import Newest
from maskrcnn.inference.outputs.writers import Saving
from maskrcnn.inference.predictor import Predictor
from maskrcnn.inference.results import infer_inputs
from tests.inference.drawn_video import HEIGHT, WIDTH, draw_frame, read_video
from tests.inference.gray_objects import gray_config
from tests.inference.test_frames import FrameModel

pytestmark = pytest.mark.no_backend
FRAMES = 60


def stream_bytes(frames):
    """A drawn video as it is sent: an MPEG transport stream."""
    import av

    sent = io.BytesIO()
    with av.open(sent, "w", format="mpegts") as container:
        stream = container.add_stream("libx264", rate=10, options={"tune": "zerolatency", "g": "10"})
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for t in range(frames):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(draw_frame(t), format="rgb24")))
        container.mux(stream.encode(None))
    return sent.getvalue()


class Server(threading.Thread):
    """Sends a stream to the one client that connects, then hangs up, unless it is told to stay silent."""

    def __init__(self, silent=False):
        super().__init__(daemon=True)
        self.socket, self.silent, self.left = socket.create_server(("127.0.0.1", 0)), silent, threading.Event()
        self.address = f"tcp://127.0.0.1:{self.socket.getsockname()[1]}"
        self.content = stream_bytes(FRAMES)

    def run(self):
        client, _ = self.socket.accept()
        with self.socket, client, contextlib.suppress(OSError):  # it may have seen enough
            client.sendall(self.content)
            if self.silent:
                self.left.wait(60)


@pytest.fixture
def server():
    thread = Server()
    thread.start()
    yield thread
    thread.join(60)
    assert not thread.is_alive()


def make_predictor(model=None):
    return Predictor(model or FrameModel(), gray_config(HEIGHT).override({"image.max_side": WIDTH}))


def infer(server, out, predictor, **options):
    return infer_inputs(predictor, find_inputs([server.address]), Saving(out), video=VideoOptions(**options))


def test_a_stream_is_predicted_until_its_end(server, tmp_path, caplog):
    out = tmp_path
    assert infer(server, out, make_predictor()) == []
    times, frames = read_video(out / "stream.mp4")[1:3]
    results = json.loads((out / "predictions.json").read_text())
    numbers = {result["frame"] for result in results}
    assert len(numbers) == len(frames)
    skipped = [int(record.args[2]) for record in caplog.records if "too fast" in record.msg]
    assert len(frames) + sum(skipped) == FRAMES
    assert np.all(np.diff(times) > 0.09)


def test_a_slow_model_takes_the_newest_frame(server, tmp_path, caplog):
    class Slow(FrameModel):
        def predict_on_batch(self, x):
            server.join(60)  # until the whole stream was sent
            return super().predict_on_batch(x)

    infer(server, tmp_path, make_predictor(Slow()))
    results = json.loads((tmp_path / "predictions.json").read_text())
    numbers = sorted({result["frame"] for result in results})
    assert numbers[-1] == FRAMES
    messages = [record.getMessage() for record in caplog.records if "too fast" in record.msg]
    assert [f"{FRAMES - len(numbers)} came too fast" in message for message in messages] == [True]


def test_the_number_of_frames_can_be_limited(server, tmp_path):
    assert infer(server, tmp_path, make_predictor(), max_frames=1) == []
    assert len(read_video(tmp_path / "stream.mp4")[2]) == 1
    with pytest.raises(UserError, match="--max_frames 0"):
        VideoOptions(max_frames=0)


def test_ctrl_c_ends_a_stream_without_an_error(tmp_path):
    class Interrupted(FrameModel):
        count = 0

        def predict_on_batch(self, x):
            self.count += 1
            if self.count == 3:
                signal.raise_signal(signal.SIGINT)
            return super().predict_on_batch(x)

    server = Server(silent=True)
    server.start()
    assert infer(server, tmp_path, make_predictor(Interrupted())) == []
    server.left.set()
    assert 1 <= len(read_video(tmp_path / "stream.mp4")[2]) <= 3


def test_who_does_not_answer_is_given_up(tmp_path, monkeypatch):
    monkeypatch.setattr(video, "TIMEOUT", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"tcp://127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(UserError, match=r"cannot be opened as a video \(no data within 0.5 s\)"):
            infer_inputs(make_predictor(), find_inputs([address]), Saving(tmp_path / "out"))


def test_ctrl_c_before_the_first_frame_leaves_nothing(tmp_path):
    class Connected(Server):
        def run(self):
            client, _ = self.socket.accept()
            with self.socket, client:
                signal.raise_signal(signal.SIGINT)
                self.left.wait(60)

    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell has background jobs ignore it
    server = Connected()
    server.start()
    with pytest.raises(KeyboardInterrupt):
        infer(server, tmp_path / "out", make_predictor())
    server.left.set()
    assert not list(tmp_path.rglob("stream*"))


def test_silence_ends_a_stream(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(video, "TIMEOUT", 0.5)
    server = Server(silent=True)
    server.start()
    assert infer(server, tmp_path, make_predictor()) == []
    server.left.set()
    assert any("no data for 0.5 s" in record.getMessage() for record in caplog.records)
    assert read_video(tmp_path / "stream.mp4")[2]


def test_errors_of_the_thread_are_raised_where_its_items_are_used():
    def items():
        yield 1
        raise ValueError("two")

    taken = []
    with pytest.raises(ValueError, match="two"):
        taken.extend(Newest(items(), lambda: False))
    newest = Newest(iter(range(1000)), lambda: False)
    last = list(newest)[-1]
    assert last == 999
    assert newest.close()


def test_waiting_for_data_ends_with_stopped():
    asked, stopped = threading.Event(), threading.Event()

    def items():
        yield 1
        asked.wait(60)

    newest = Newest(items(), stopped.is_set)
    for item in newest:
        assert item == 1
        stopped.set()
    assert not newest.close()  # its thread still waits
    asked.set()
