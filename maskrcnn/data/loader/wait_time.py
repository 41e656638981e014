"""How long the training loop waits for its data."""

import time

import numpy as np
import tensorflow as tf


class DataWait:
    """Seconds that the consumer of a dataset has spent waiting in it, in all."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def measure(self, dataset: tf.data.Dataset) -> tf.data.Dataset:
        """The same batches; each request for one is timed.

        A zipped dataset asks its parts one after the other, so that the clock is read before the batch is asked for,
        and the mapped function reads it when the batch is there.
        """

        def finish(begun, batch):
            with tf.control_dependencies([tf.numpy_function(self._end, [begun], tf.bool)]):
                return tf.nest.map_structure(tf.identity, batch)

        clock = tf.data.Dataset.counter().map(self._read_clock)
        options = tf.data.Options()
        options.experimental_optimization.inject_prefetch = False  # it would wait in the consumer's place
        return tf.data.Dataset.zip((clock, dataset)).map(finish).with_options(options)

    @tf.autograph.experimental.do_not_convert
    def _read_clock(self, _):
        return tf.numpy_function(time.perf_counter, [], tf.float64)

    def _end(self, begun: np.float64) -> np.bool_:
        self.seconds += time.perf_counter() - float(begun)
        return np.True_
