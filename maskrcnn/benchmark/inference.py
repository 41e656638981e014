"""Speed and memory of inference, of a live model or an exported file: `maskrcnn benchmark inference`.

Inference is timed in three parts, one after the other for each batch. Preprocessing resizes images of 640x480 to the
canvas; with real data the loader does so in parallel, and the time is that spent waiting for it. Forward takes uint8
images from the host and returns detections and 28x28 masks to it. Postprocessing scales boxes and masks to the original
image, as run-length codes. On an accelerator the throughput of forward is measured again with the next batch dispatched
before the results of the last one are fetched. Without a trained model the score threshold is off, so that every image
has the largest number of detections. An exported file needs neither Keras nor TensorFlow.
"""

import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from tqdm import tqdm

from maskrcnn.benchmark.batches import inference_batches, open_split
from maskrcnn.benchmark.record import BenchmarkOptions, Record, Window, make_record, startup, summarize
from maskrcnn.config import Config
from maskrcnn.inference.detections import to_original
from maskrcnn.inference.exported import load_exported
from maskrcnn.runtime import hardware

Forward = Callable[[dict[str, Any]], dict[str, Any]]


def benchmark_inference(config: Config, options: BenchmarkOptions) -> Record:
    """Measures inference on batches of ``config.train.eval_batch_size`` images; returns a record for `append_record`.

    Raises:
        UserError: unusable data, model or settings.
    """
    batches = inference_batches(config, open_split(config, options, "val"))
    began = time.perf_counter()
    forward, config, engine = _open_model(config, options)
    built, window = time.perf_counter() - began, Window(lambda: 0.0)

    times = []
    steps = options.warmup_steps + options.steps
    for step in tqdm(range(steps), desc="inference", unit="batch", dynamic_ncols=True):
        if step == options.warmup_steps:
            window.begin()
        times.append(_time_parts(batches, forward, config))
    peak, batch_size = window.peak_memory(), config.train.eval_batch_size
    preprocessing, seconds, postprocessing = np.transpose(times[options.warmup_steps :]).tolist()
    whole = np.sum(times[options.warmup_steps :], axis=1)
    results = {
        "throughput": batch_size / _seconds_per_batch(forward, next(batches), seconds),
        "throughput_all_parts": batch_size / float(whole.mean()),
        "latency": summarize(seconds),
        "preprocessing": summarize(preprocessing),
        "postprocessing": summarize(postprocessing),
        **startup(built, times[0][1], seconds),
        "peak_memory": peak,
    }
    return make_record("inference", config, options, results, engine)


def _open_model(config: Config, options: BenchmarkOptions) -> tuple[Forward, Config, Record | None]:
    """The function that is measured, the config that it was made with, and what computes it if that is not Keras."""
    if options.model_file:
        file: Any = load_exported(options.model_file).model
        engine = {"backend": file.runtime, "precision": file.metadata["precision"], "xla": False}
        return file.predict_on_batch, config, engine
    from maskrcnn.benchmark.live import live_model  # imports Keras

    return *live_model(config, options), None


def _time_parts(batches: Iterator[dict[str, Any]], forward: Forward, config: Config) -> list[float]:
    """Seconds of preprocessing, forward and postprocessing of a batch."""
    began = time.perf_counter()
    batch = next(batches)
    prepared = time.perf_counter()
    outputs = _fetch(forward(_inputs(batch)))
    computed = time.perf_counter()
    for i, sizes in enumerate(zip(batch["image_sizes"].tolist(), batch["original_sizes"].tolist(), strict=True)):
        to_original({name: value[i] for name, value in outputs.items()}, *sizes, config.categories)
    return [prepared - began, computed - prepared, time.perf_counter() - computed]


def _inputs(batch: dict[str, Any]) -> dict[str, Any]:
    return {name: batch[name] for name in ("images", "image_sizes")}


def _fetch(outputs: dict[str, Any]) -> dict[str, np.ndarray]:
    return {name: np.asarray(value) for name, value in outputs.items()}


def _seconds_per_batch(forward: Forward, batch: dict[str, Any], one_by_one: list[float]) -> float:
    """The mean time with one batch dispatched ahead; on a CPU, which computes one at a time, of those given."""
    if hardware.device_name() == "cpu":
        return statistics.mean(one_by_one)
    inputs = _inputs(batch)
    began, running = time.perf_counter(), forward(inputs)
    for _ in one_by_one:
        running, ended = forward(inputs), running
        _fetch(ended)
    _fetch(running)
    return (time.perf_counter() - began) / (len(one_by_one) + 1)
