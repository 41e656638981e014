"""The share of time that training waits for data."""

import itertools

import tensorflow as tf

from maskrcnn.data.loader.wait_time import DataWait


def test_batches_pass_unchanged_and_each_wait_is_counted(monkeypatch):
    ticks = itertools.count()
    monkeypatch.setattr("maskrcnn.data.loader.wait_time.time.perf_counter", lambda: float(next(ticks)))
    wait = DataWait()
    dataset = tf.data.Dataset.range(6).batch(2, drop_remainder=True).map(lambda x: {"images": x})
    measured = wait.measure(dataset)
    assert measured.element_spec == dataset.element_spec
    assert [batch["images"].numpy().tolist() for batch in measured] == [[0, 1], [2, 3], [4, 5]]
    assert wait.seconds == 3.0  # one tick between asking for a batch and having it
