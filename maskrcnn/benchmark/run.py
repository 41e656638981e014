"""Speed and memory of training and of inference: the measurements of `maskrcnn benchmark`.

Training is Keras' compiled step under `fit`: the batch goes to the device, the losses stay there, and the host waits
for an earlier step (see `StepClock`), so that the time of a step is that between the ends of two steps. The learning
rate is so small that the weights, and with them the boxes that NMS compares, stay the same.

Inference is timed in three parts, one after the other for each batch. Preprocessing resizes images of 640x480 to the
canvas; with real data the loader does so in parallel, and the time is that spent waiting for it. Forward takes uint8
images from the host and returns detections and 28x28 masks to it. Postprocessing scales boxes and masks to the original
image, as run-length codes. On an accelerator the throughput of forward is measured again with the next batch dispatched
before the results of the last one are fetched. Without a trained model the score threshold is off, so that every image
has the largest number of detections.
"""

import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
from tqdm import tqdm

from maskrcnn.benchmark.batches import Batch, inference_batches, open_split, training_batches, with_categories
from maskrcnn.benchmark.record import BenchmarkOptions, Record, Window, make_record
from maskrcnn.benchmark.step_clock import StepClock, summarize
from maskrcnn.config import Config
from maskrcnn.inference.detections import to_original
from maskrcnn.model import MaskRCNN
from maskrcnn.runtime import backend, compiler, hardware
from maskrcnn.weights.model_folder import load_model
from maskrcnn.weights.transfer import load_start

LEARNING_RATE = 1e-9


def benchmark_training(config: Config, options: BenchmarkOptions) -> Record:
    """Measures training steps of ``config.train.batch_size`` images; returns a record for `append_record`.

    Raises:
        UserError: unusable data or settings.
    """
    _prepare(config, options)
    split = open_split(config, options, "train")
    config = with_categories(config, split)
    began, train = time.perf_counter(), config.train
    model = MaskRCNN(config)
    load_start(model, backbone_checkpoint=options.backbone_checkpoint, weights=None)
    optimizer = keras.optimizers.SGD(LEARNING_RATE, train.momentum, global_clipnorm=train.clip_norm)
    model.compile(optimizer, **compiler.compile_options(xla=train.xla, eagerly=train.eagerly))
    model.optimizer.build(model.trainable_variables)
    built = time.perf_counter() - began

    batches, waiting = training_batches(config, split)
    window, steps = Window(waiting), options.warmup_steps + options.steps
    with tqdm(total=steps, desc="training", unit="step", dynamic_ncols=True) as progress:
        clock = StepClock(model, options.warmup_steps, window.begin, progress)
        model.fit(batches, epochs=1, steps_per_epoch=steps, callbacks=clock, shuffle=False, verbose=0)
    total = sum(clock.seconds)
    results = {
        "throughput": len(clock.seconds) * train.batch_size / total,
        "latency": summarize(clock.seconds),
        "data_wait": window.waited / total,
        **_startup(built, clock.first_step, clock.seconds),
        "peak_memory": window.peak_memory(),
    }
    return make_record("training", config, options, results)


def benchmark_inference(config: Config, options: BenchmarkOptions) -> Record:
    """Measures inference on batches of ``config.train.eval_batch_size`` images; returns a record for `append_record`.

    Raises:
        UserError: unusable data, model or settings.
    """
    _prepare(config, options)
    batches = inference_batches(config, open_split(config, options, "val"))
    began = time.perf_counter()
    model, config = _inference_model(config, options)
    forward = compiler.compile_inference(model, xla=config.train.xla)
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
        **_startup(built, times[0][1], seconds),
        "peak_memory": peak,
    }
    return make_record("inference", config, options, results)


def _prepare(config: Config, options: BenchmarkOptions) -> None:
    backend.set_precision(config.train.precision)
    if config.train.seed is not None:
        backend.set_seed(config.train.seed, xla=config.train.xla)


def _inference_model(config: Config, options: BenchmarkOptions) -> tuple[MaskRCNN, Config]:
    if options.model_dir and (Path(options.model_dir) / "model.weights.h5").is_file():
        return load_model(options.model_dir, config)
    config = with_categories(config, None).override({"box_head.score_threshold": -1.0})
    return MaskRCNN(config), config


def _time_parts(batches: Iterator[Batch], forward: Callable[[Any], Any], config: Config) -> list[float]:
    """Seconds of preprocessing, forward and postprocessing of a batch."""
    began = time.perf_counter()
    batch = next(batches)
    prepared = time.perf_counter()
    outputs = _fetch(forward(batch.inputs))
    computed = time.perf_counter()
    for i, original_size in enumerate(batch.original_sizes):
        height, width = batch.inputs["image_sizes"][i].tolist()
        one = {name: value[i] for name, value in outputs.items()}
        to_original(one, (height, width), original_size, config.categories)
    return [prepared - began, computed - prepared, time.perf_counter() - computed]


def _fetch(outputs: dict[str, Any]) -> dict[str, np.ndarray]:
    return {name: np.asarray(value) for name, value in outputs.items()}


def _seconds_per_batch(forward: Callable[[Any], Any], batch: Batch, one_by_one: list[float]) -> float:
    """The mean time with one batch dispatched ahead; on a CPU, which computes one at a time, of those given."""
    if hardware.device_name() == "cpu":
        return statistics.mean(one_by_one)
    began, running = time.perf_counter(), forward(batch.inputs)
    for _ in one_by_one:
        running, ended = forward(batch.inputs), running
        _fetch(ended)
    _fetch(running)
    return (time.perf_counter() - began) / (len(one_by_one) + 1)


def _startup(built: float, first_step: float, seconds: list[float]) -> dict[str, float]:
    compiling = max(first_step - statistics.median(seconds), 0.0)
    return {"build_seconds": built, "first_step_seconds": first_step, "compile_seconds": compiling}
