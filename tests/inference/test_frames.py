"""Videos are predicted frame by frame, drawn with their times and sound kept, and their objects tracked."""

import csv
import json
import os
import signal
import sys

import numpy as np
import pytest

pytest.importorskip("av")

from maskrcnn.data.formats import coco
from maskrcnn.errors import UserError
from maskrcnn.inference.frames import VideoOptions, stopping
from maskrcnn.inference.inputs import find_inputs
from maskrcnn.inference.outputs.writers import Saving
from maskrcnn.inference.predictor import Predictor
from maskrcnn.inference.results import infer_inputs
from tests.inference.drawn_video import HEIGHT, PATHS, RATE, SOUND_RATE, WIDTH, read_video, write_video
from tests.inference.gray_objects import GrayModel, gray_config

pytestmark = pytest.mark.no_backend


class FrameModel(GrayModel):
    """A model that takes grays for the nearest multiple of 10: a video's colors are rounded."""

    def predict_on_batch(self, x):
        return super().predict_on_batch({"images": (np.asarray(x["images"]).astype(int) + 5) // 10 * 10})


@pytest.fixture(scope="module")
def film(tmp_path_factory):
    return write_video(tmp_path_factory.mktemp("film") / "film.mp4")


@pytest.fixture(scope="module")
def predictor():
    return Predictor(FrameModel(), gray_config(HEIGHT).override({"image.max_side": WIDTH}))


@pytest.fixture(scope="module")
def tracked(film, predictor, tmp_path_factory):
    out = tmp_path_factory.mktemp("tracked")
    assert (
        infer_inputs(predictor, find_inputs([film]), Saving(out, ("drawn", "csv")), video=VideoOptions(track=True))
        == []
    )
    return out


def test_rate_times_and_sound_are_kept(film, tracked):
    source, drawn = read_video(film), read_video(tracked / "film.mp4")
    assert drawn[0] == source[0] == RATE
    np.testing.assert_allclose(drawn[1], source[1], atol=1e-4)
    assert drawn[3] == source[3] >= 6 * SOUND_RATE
    assert len(drawn[2]) == 60
    assert all(frame.shape == (HEIGHT, WIDTH, 3) for frame in drawn[2])
    assert np.ptp(drawn[2][5].astype(int), axis=2).max() > 50  # the masks' colors; the source is gray


def test_results_name_frames_and_times(tracked):
    results = json.loads((tracked / "predictions.json").read_text())
    assert len(results) == 60 * 3 - sum(len(visible(t)) < 3 for t in range(60))
    last = results[-1]
    assert (last["image_id"], last["frame"], last["time_s"]) == (60, 60, 5.9)
    with (tracked / "detections.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(results)
    assert {row["frame"] for row in rows} == {str(number) for number in range(1, 61)}


def visible(t):
    from tests.inference.drawn_video import draw_frame

    return [value for value in PATHS if (draw_frame(t) == value).sum() > 12]


def test_ids_are_kept_through_a_crossing(tracked):
    tracks = [line.split(",") for line in (tracked / "film_tracks.csv").read_text().splitlines()]
    assert all(len(line) == 10 for line in tracks)
    matches: dict[int, dict[int, int]] = {value: {} for value in PATHS}  # of each path, frames by id
    for frame, track, left, top, width, height, *_ in tracks:
        center = float(left) + float(width) / 2, float(top) + float(height) / 2
        value = min(PATHS, key=lambda value: np.hypot(*np.subtract(PATHS[value](int(frame) - 1), center)))
        matches[value][int(track)] = matches[value].get(int(track), 0) + 1
    identities = {value: max(found, key=lambda track: found[track]) for value, found in matches.items()}
    assert len(set(identities.values())) == 3
    true_positives = sum(matches[value][track] for value, track in identities.items())
    idf1 = 2 * true_positives / (60 * 3 + len(tracks))
    print(f"IDF1 {idf1:.3f}")
    assert idf1 >= 0.95


def test_every_third_frame_keeps_the_times_and_saves_labels(film, predictor, tmp_path):
    infer_inputs(predictor, find_inputs([film]), Saving(tmp_path, ("coco", "drawn")), video=VideoOptions(every=3))
    _, times, frames, samples = read_video(tmp_path / "film.mp4")
    np.testing.assert_allclose(times, np.arange(20) * 0.3, atol=1e-4)
    assert samples >= 6 * SOUND_RATE
    assert len(frames) == 20
    dataset = coco.find(tmp_path)
    assert dataset is not None
    content = dataset.splits[0].read().content
    assert [image["file_name"] for image in content["images"]][:2] == ["film_000001.jpg", "film_000004.jpg"]
    assert (tmp_path / "frames" / "film_000058.jpg").exists()


def test_the_number_of_frames_can_be_limited(film, predictor, tmp_path):
    infer_inputs(predictor, find_inputs([film]), Saving(tmp_path), video=VideoOptions(every=2, max_frames=5))
    np.testing.assert_allclose(read_video(tmp_path / "film.mp4")[1], np.arange(5) * 0.2, atol=1e-4)


def test_sound_that_mp4_does_not_hold_gives_matroska(predictor, tmp_path):
    film = write_video(tmp_path / "pcm.mkv", frames=4, sound="pcm_s16le")
    infer_inputs(predictor, find_inputs([film]), Saving(tmp_path / "out"))
    assert read_video(tmp_path / "out" / "pcm.mkv")[3] == 4 * SOUND_RATE // RATE


def test_a_broken_video_gives_what_can_be_decoded(film, predictor, tmp_path):
    data = bytearray(write_video(tmp_path / "whole.mkv", sound=None).read_bytes())
    middle = len(data) // 2
    data[middle : middle + 400] = bytes(400)
    (tmp_path / "broken.mkv").write_bytes(data)
    (problem,) = infer_inputs(predictor, find_inputs([tmp_path / "broken.mkv"]), Saving(tmp_path / "out"))
    assert "broken frames" in problem
    frames = len(read_video(tmp_path / "out" / "broken.mp4")[2])
    assert 30 <= frames < 60


def test_unreadable_videos_do_not_stop_the_others(film, predictor, tmp_path):
    (tmp_path / "text.mp4").write_text("no video")
    inputs = find_inputs([tmp_path / "text.mp4", film])
    (problem,) = infer_inputs(predictor, inputs, Saving(tmp_path / "out", ()), video=VideoOptions(every=30))
    assert "text.mp4: cannot be opened as a video" in problem
    with pytest.raises(UserError, match=r"none of 1 images and videos can be read; the first: .*text\.mp4"):
        infer_inputs(predictor, find_inputs([tmp_path / "text.mp4"]), Saving(tmp_path / "none"))
    assert not (tmp_path / "none").exists()
    with pytest.raises(UserError, match=r"film\.mp4: the drawn video would replace it"):
        infer_inputs(predictor, find_inputs([film]), Saving(film.parent))
    with pytest.raises(UserError, match="--every 0"):
        VideoOptions(every=0)


def test_ctrl_c_leaves_files_that_are_complete(film, tmp_path):
    class Interrupted(FrameModel):
        batches = 0

        def predict_on_batch(self, x):
            self.batches += 1
            if self.batches == 5:
                os.kill(os.getpid(), signal.SIGINT)
            return super().predict_on_batch(x)

    predictor = Predictor(Interrupted(), gray_config(HEIGHT).override({"image.max_side": WIDTH}))
    with pytest.raises(KeyboardInterrupt):
        infer_inputs(predictor, find_inputs([film]), Saving(tmp_path / "out"))
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["film.mp4", "predictions.json"]
    frames = read_video(tmp_path / "out" / "film.mp4")[2]
    assert 16 <= len(frames) <= 24
    results = json.loads((tmp_path / "out" / "predictions.json").read_text())
    assert max(result["frame"] for result in results) == len(frames)


def test_a_second_ctrl_c_interrupts():
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell has background jobs ignore it
    with stopping() as stopped:
        os.kill(os.getpid(), signal.SIGINT)
        assert stopped.is_set()
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_missing_pyav_is_named(film, predictor, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(UserError, match=r"av is not installed; run: pip install 'maskrcnn\[video\]'"):
        infer_inputs(predictor, find_inputs([film]), Saving(tmp_path / "out"))
