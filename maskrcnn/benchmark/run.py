"""Speed and memory of training and of inference: what `maskrcnn benchmark` measures.

Training is Keras' own compiled step under `fit`, the state donated to it as always: the batch goes to the device, the
losses stay there, and the host waits for the step before the last one (see `StepClock`). So a step's time is what lies
between the ends of two steps. The learning rate is next to nothing, so that the weights, and with them the boxes that
suppression has to look through, stay as they are.

Inference is timed in three parts, one after the other for each batch. Pre-processing resizes photographs of 640x480 and
puts them on the canvas; with real data the loader does so beside the model, and the time is what was waited for it.
Forward takes uint8 images from the host, and detections and 28x28 masks back to it. Post-processing brings boxes and
masks to the image's own pixels, as run-length codes. On an accelerator the throughput of forward is measured once more
with the next batch given to the device before the last one's results are fetched. A model without training takes every
box for an object (score threshold 0), so that all slots of detections are filled.
"""

import dataclasses
import datetime
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
from tqdm import tqdm

from maskrcnn.benchmark.batches import Batch, inference_batches, training_batches
from maskrcnn.benchmark.step_clock import StepClock, summarize
from maskrcnn.config import Config
from maskrcnn.data.loader.synthetic import SYNTHETIC_CATEGORIES
from maskrcnn.errors import UserError
from maskrcnn.imaging.canvas import canvas_size
from maskrcnn.inference.detections import to_original
from maskrcnn.model import MaskRCNN
from maskrcnn.runtime import backend, compiler, hardware
from maskrcnn.runtime.hardware import describe_machine, peak_resident, reset_peak_memory
from maskrcnn.weights.model_folder import load_model
from maskrcnn.weights.transfer import load_start

LEARNING_RATE = 1e-9

Record = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class BenchmarkOptions:
    """What a measurement runs on, beside the config."""

    steps: int = 200  # measured; the replaced system's
    warmup_steps: int = 100  # before that; the replaced system's
    data_dir: str | Path | None = None  # None: synthetic images
    model_dir: str | Path | None = None  # for inference, of a trained model; gets the records of COCO data
    backbone_checkpoint: str | Path | None = None  # for training; speed does not depend on it


def benchmark_training(config: Config, options: BenchmarkOptions) -> Record:
    """Measures training steps of ``config.train.batch_size`` images; returns a record as `append_record` writes it.

    Raises:
        UserError: data or settings that cannot work.
    """
    _check(options)
    _prepare_backend(config)
    split = _open_split(config, options, "train")
    config = _with_categories(config, split)
    began = time.perf_counter()
    model = MaskRCNN(config)
    load_start(model, backbone_checkpoint=options.backbone_checkpoint, weights=None)
    optimizer = keras.optimizers.SGD(LEARNING_RATE, config.train.momentum, global_clipnorm=config.train.clip_norm)
    model.compile(optimizer, **_compile_options(config))
    model.optimizer.build(model.trainable_variables)
    built = time.perf_counter() - began

    batches, waited = training_batches(config, split)
    before = _Window(waited)
    steps = options.warmup_steps + options.steps
    with tqdm(total=steps, desc="training", unit="step", dynamic_ncols=True) as progress:
        clock = StepClock(model, options.warmup_steps, before.begin, progress)
        model.fit(batches, epochs=1, steps_per_epoch=steps, callbacks=clock, shuffle=False, verbose=0)
    total = sum(clock.seconds)
    results = {
        "throughput": len(clock.seconds) * config.train.batch_size / total,
        "latency": summarize(clock.seconds),
        "data_wait": (waited() - before.waited) / total,
        **_starting(built, clock.first_step, clock.seconds),
        "peak_memory": before.peak_memory(),
    }
    return _record("training", config, options, config.train.batch_size, results)


def benchmark_inference(config: Config, options: BenchmarkOptions) -> Record:
    """Measures inference on batches of ``config.train.eval_batch_size`` images, part by part; see `benchmark_training`.

    Raises:
        UserError: data, model or settings that cannot work.
    """
    _check(options)
    _prepare_backend(config)
    batch_size = config.train.eval_batch_size
    batches = inference_batches(config, _open_split(config, options, "val"))
    began = time.perf_counter()
    model, config = _inference_model(config, options)
    forward = compiler.compile_inference(model, xla=config.train.xla)
    built = time.perf_counter() - began

    memory = _Window(lambda: 0.0)
    parts: dict[str, list[float]] = {"preprocessing": [], "forward": [], "postprocessing": []}
    with tqdm(total=options.warmup_steps + options.steps, desc="inference", unit="batch", dynamic_ncols=True) as bar:
        first_step = 0.0
        for step in range(options.warmup_steps + options.steps):
            if step == options.warmup_steps:
                memory.begin()
            times = [time.perf_counter()]
            batch = next(batches)
            times.append(time.perf_counter())
            outputs = _fetch(forward(batch.inputs))
            times.append(time.perf_counter())
            _finish(outputs, batch, config)
            times.append(time.perf_counter())
            first_step = first_step or times[2] - times[1]
            if step >= options.warmup_steps:
                for name, seconds in zip(parts, np.diff(times).tolist(), strict=True):
                    parts[name].append(seconds)
            bar.update()
        peak = memory.peak_memory()
    whole = [sum(times) for times in zip(*parts.values(), strict=True)]
    results = {
        "throughput": batch_size / _seconds_a_batch(forward, next(batches), parts["forward"]),
        "throughput_all_parts": batch_size / statistics.mean(whole),
        "latency": summarize(parts["forward"]),
        "preprocessing": summarize(parts["preprocessing"]),
        "postprocessing": summarize(parts["postprocessing"]),
        **_starting(built, first_step, parts["forward"]),
        "peak_memory": peak,
    }
    return _record("inference", config, options, batch_size, results)


def append_record(record: Record, path: str | Path) -> None:
    """Adds a record to a file as a line of JSON.

    Raises:
        UserError: it cannot be written.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror}); choose another --out_file") from error


class _Window:
    """What was waited for and the memory that was used from `begin` on."""

    def __init__(self, waiting: Callable[[], float]) -> None:
        self.waiting = waiting
        self.waited = 0.0
        self._before = hardware.peak_memory()

    def begin(self) -> None:
        self.waited = self.waiting()
        self._before = hardware.peak_memory()
        reset_peak_memory()

    def peak_memory(self) -> dict[str, int | None]:
        """Bytes: of the host in the whole run and in the measured steps alone, and of the device."""
        now, steps = hardware.peak_memory(), peak_resident()
        return {
            "host": max(now.host or 0, self._before.host or 0, steps or 0) or None,
            "host_in_steps": steps,
            "device": now.device,
        }


def _check(options: BenchmarkOptions) -> None:
    if options.steps < 1 or options.warmup_steps < 1:
        raise UserError("--steps and --warmup_steps must be at least 1: the first step is compiled, not measured")


def _prepare_backend(config: Config) -> None:
    backend.set_precision(config.train.precision)
    if config.train.seed is not None:
        backend.set_seed(config.train.seed, xla=config.train.xla)


def _compile_options(config: Config) -> dict[str, bool]:
    return compiler.compile_options(xla=config.train.xla, eagerly=config.train.eagerly)


def _open_split(config: Config, options: BenchmarkOptions, name: Any) -> Any:
    if options.data_dir is None:
        return None
    from maskrcnn.data.splits import open_split  # imports TensorFlow, as all that reads data

    return open_split(options.data_dir, name, cache_dir=options.model_dir, skip_bad=config.data.skip_bad)


def _with_categories(config: Config, split: Any) -> Config:
    """Those of the data, or the config's own, or as many as COCO has."""
    categories = split.categories if split else config.categories or SYNTHETIC_CATEGORIES
    return dataclasses.replace(config, categories=categories)


def _inference_model(config: Config, options: BenchmarkOptions) -> tuple[MaskRCNN, Config]:
    if options.model_dir and (Path(options.model_dir) / "model.weights.h5").is_file():
        return load_model(options.model_dir, config)
    config = _with_categories(config, None).override({"box_head.score_threshold": -1.0})
    return MaskRCNN(config), config


def _fetch(outputs: dict[str, Any]) -> dict[str, np.ndarray]:
    return {name: np.asarray(value) for name, value in outputs.items()}


def _finish(outputs: dict[str, np.ndarray], batch: Batch, config: Config) -> None:
    for i, original_size in enumerate(batch.original_sizes):
        height, width = batch.inputs["image_sizes"][i].tolist()
        one = {name: value[i] for name, value in outputs.items()}
        to_original(one, (height, width), original_size, config.categories)


def _seconds_a_batch(forward: Callable[[Any], Any], batch: Batch, alone: list[float]) -> float:
    """With one batch given ahead; on a CPU, where host and device are one, as when each is waited for."""
    if hardware.device_name() == "cpu":
        return statistics.mean(alone)
    began, running = time.perf_counter(), forward(batch.inputs)
    for _ in alone:
        running, ended = forward(batch.inputs), running
        _fetch(ended)
    _fetch(running)
    return (time.perf_counter() - began) / (len(alone) + 1)


def _starting(built: float, first_step: float, seconds: list[float]) -> dict[str, float]:
    compiling = max(first_step - statistics.median(seconds), 0.0)
    return {"build_seconds": built, "first_step_seconds": first_step, "compile_seconds": compiling}


def _record(kind: str, config: Config, options: BenchmarkOptions, batch_size: int, results: Record) -> Record:
    image = config.model.image
    return {
        "kind": kind,
        "time": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "machine": describe_machine(),
        "device": hardware.device_name(),
        "configuration": {
            "backend": backend.active_backend(),
            "batch_size": batch_size,
            "canvas": list(canvas_size(1, 2, image)),
            "precision": config.train.precision,
            "xla": _compile_options(config)["jit_compile"],
            "classes": config.num_classes,
            "data": "synthetic" if options.data_dir is None else Path(options.data_dir).name,
            "steps": options.steps,
            "warmup_steps": options.warmup_steps,
            "model": dataclasses.asdict(config.model),
        },
        "results": results,
    }
