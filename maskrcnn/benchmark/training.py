"""Speed and memory of training: the measurement of `maskrcnn benchmark training`.

Training is Keras' compiled step under `fit`: the batch goes to the device, the losses stay there, and the host waits
for an earlier step (see `StepClock`), so that the time of a step is that between the ends of two steps. The learning
rate is so small that the weights, and with them the boxes that NMS compares, stay the same.
"""

import time

import keras
from tqdm import tqdm

from maskrcnn.benchmark.batches import open_split, training_batches, with_categories
from maskrcnn.benchmark.record import BenchmarkOptions, Record, Window, make_record, startup, summarize
from maskrcnn.benchmark.step_clock import StepClock
from maskrcnn.config import Config
from maskrcnn.model import MaskRCNN
from maskrcnn.runtime import compiler
from maskrcnn.weights.model_folder import prepare_backend
from maskrcnn.weights.transfer import load_start

LEARNING_RATE = 1e-9


def benchmark_training(config: Config, options: BenchmarkOptions) -> Record:
    """Measures training steps of ``config.train.batch_size`` images; returns a record for `append_record`.

    Raises:
        UserError: unusable data or settings.
    """
    prepare_backend(config)
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
        **startup(built, clock.first_step, clock.seconds),
        "peak_memory": window.peak_memory(),
    }
    return make_record("training", config, options, results)
