"""Scalars as TensorBoard reads them."""

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.util.tensor_util import make_ndarray

from maskrcnn.logs.tensorboard import ScalarWriter


def read(directory, tag):
    events = EventAccumulator(str(directory)).Reload().Tensors(tag)
    return [(event.step, make_ndarray(event.tensor_proto).item()) for event in events]


def test_scalars_are_on_the_disk_before_the_file_is_closed(tmp_path):
    writer = ScalarWriter(tmp_path)
    for step in (1, 3):
        writer.write(step, {"loss": step / 4, "learning_rate": 0.5})
    assert read(tmp_path, "loss") == [(1, 0.25), (3, 0.75)]
    assert read(tmp_path, "learning_rate") == [(1, 0.5), (3, 0.5)]
    writer.close()
