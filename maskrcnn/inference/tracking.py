"""Ids that objects keep from frame to frame, by ByteTrack (arXiv:2110.06864) of the package trackers."""

from dataclasses import replace
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from maskrcnn.inference.detections import Detections
from maskrcnn.runtime.extras import import_extra

UNTRACKED = -1  # id of detections without a track
LOST_S = 1.0  # s for which an object that is hidden keeps its id
LOWEST_SCORE = 0.1  # of a detection that may continue a track; ByteTrack, Sec. 3


class Tracker:
    """Gives the detections of successive frames ids, class by class."""

    def __init__(self, frames_per_second: float, score_threshold: float) -> None:
        """Starts without tracks.

        Args:
            frames_per_second: how many frames `update` gets for a second of the video.
            score_threshold: lowest score with which an object gets a new id; lower ones may continue a track.

        Raises:
            UserError: trackers is not installed.
        """
        self._kind = import_extra("trackers").ByteTrackTracker
        self._supervision = import_extra("supervision")
        self._options = {
            "frame_rate": frames_per_second,
            "lost_track_buffer": round(30 * LOST_S),  # in frames at 30 a second
            "track_activation_threshold": score_threshold,
            "high_conf_det_threshold": score_threshold,
            "minimum_consecutive_frames": 1,
        }
        self._trackers: dict[int, Any] = {}  # by class
        self._ids: dict[tuple[int, int], int] = {}  # ours, of a class and its tracker's own id

    def update(self, detections: Detections) -> Detections:
        """The detections of the next frame with their ids, which count from 1."""
        ids = np.full(len(detections), UNTRACKED, np.int64)
        for index in {*self._trackers, *detections.classes.tolist()}:
            if index not in self._trackers:
                self._trackers[index] = self._kind(**self._options)
            members = np.flatnonzero((detections.classes == index) & (detections.scores >= LOWEST_SCORE))
            tracked = self._trackers[index].update(
                self._supervision.Detections(
                    xyxy=detections.boxes[members].reshape(-1, 4),
                    confidence=detections.scores[members],
                    data={"member": members},
                )
            )
            for member, own in zip(tracked.data.get("member", ()), tracked.tracker_id, strict=True):
                if own >= 0:
                    ids[member] = self._ids.setdefault((index, int(own)), len(self._ids) + 1)
        return replace(detections, track_ids=ids)


class TrackFile:
    """Writes tracks in the form of the MOT Challenge: frame, id, left, top, width, height, score, class, -1, -1."""

    def __init__(self, file: TextIO) -> None:
        self._file = file

    def add(self, frame: int, detections: Detections) -> None:
        """Appends the tracked detections of a frame."""
        tracks = [UNTRACKED] * len(detections) if detections.track_ids is None else detections.track_ids.tolist()
        for box, index, score, track in zip(
            detections.boxes.tolist(), detections.classes, detections.scores, tracks, strict=True
        ):
            if track != UNTRACKED:
                x1, y1, x2, y2 = box
                place = ",".join(f"{value:.2f}" for value in (x1, y1, x2 - x1, y2 - y1))
                self._file.write(f"{frame},{track},{place},{score:.4f},{index},-1,-1\n")


def track_path(out_dir: Path, name: str) -> Path:
    """The file of the tracks of a video."""
    return out_dir / f"{name}_tracks.csv"
