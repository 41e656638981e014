"""Cutting TensorBoard's files."""

from tensorboard.backend.event_processing.event_file_loader import EventFileLoader
from tensorboard.summary import Writer

from maskrcnn.logs.tensorboard import cut_events


def read(directory):
    events = [event for path in directory.iterdir() for event in EventFileLoader(str(path)).Load()]
    return [(value.tag, event.step) for event in events for value in event.summary.value]


def test_events_after_the_step_and_the_last_evaluation_go(tmp_path):
    writer = Writer(str(tmp_path))
    for tag, step in [("loss", 1), ("bbox_AP", 1), ("loss", 2), ("segm_AP", 2), ("loss", 3)]:
        writer.add_scalar(tag, 0.5, step)
    writer.close()
    (path,) = tmp_path.iterdir()
    path.write_bytes(path.read_bytes()[:-3])  # cut short by a crash
    modified = path.stat().st_mtime_ns
    cut_events(tmp_path, step=2, total_steps=4)
    assert read(tmp_path) == [("loss", 1), ("bbox_AP", 1), ("loss", 2), ("segm_AP", 2)]
    cut_events(tmp_path, step=2, total_steps=2)
    assert read(tmp_path) == [("loss", 1), ("bbox_AP", 1), ("loss", 2)]
    assert path.stat().st_mtime_ns == modified


def test_nothing_to_cut(tmp_path):
    cut_events(tmp_path / "none", step=1, total_steps=2)
