"""What is set before a model is built."""

import logging

import keras
import pytest

from maskrcnn.config import TrainConfig
from maskrcnn.runtime.backend import set_precision
from maskrcnn.runtime.distribution import Devices
from maskrcnn.training.model_setup import SLOW_FLOAT16, prepare_backend


@pytest.mark.parametrize(("precision", "on_cpu"), [("float16", True), ("float16", False), ("bfloat16", True)])
def test_a_warning_where_float16_has_slow_gradients(precision, on_cpu, monkeypatch, caplog):
    monkeypatch.setattr("maskrcnn.training.model_setup.computes_on_cpu", lambda: on_cpu)
    with caplog.at_level(logging.WARNING):
        try:
            prepare_backend(TrainConfig(precision=precision), Devices())
        finally:
            set_precision("float32")
    slow = precision == "float16" and on_cpu and keras.backend.backend() == "tensorflow"
    assert [record.getMessage() for record in caplog.records] == [SLOW_FLOAT16] * slow
