"""Training, on one page: data, model, schedule, optimizer, callbacks, fit."""

import contextlib
import dataclasses
import logging
import os
import random
from dataclasses import dataclass
from pathlib import Path

import keras

from maskrcnn.config import Config
from maskrcnn.data.loader.synthetic import SYNTHETIC_CATEGORIES
from maskrcnn.data.splits import Split, open_split
from maskrcnn.errors import UserError
from maskrcnn.evaluation.coco_metrics import Metrics
from maskrcnn.evaluation.eval_split import open_eval_split
from maskrcnn.evaluation.run import LOG_FILE, flatten, write_metrics
from maskrcnn.logs.dllogger import DLLLog, LogOptions, cut_log
from maskrcnn.logs.history import evaluated_epochs
from maskrcnn.logs.tensorboard import cut_events
from maskrcnn.model import MaskRCNN
from maskrcnn.runtime import backend, compiler, hardware
from maskrcnn.runtime.distribution import Devices, connect
from maskrcnn.runtime.files import claimed, remove_stale
from maskrcnn.runtime.keras_patches import patch_keras_trainer
from maskrcnn.training.batches import TrainingData
from maskrcnn.training.callbacks import EvaluateEpochs, SaveCheckpoints, StopOnNonFinite
from maskrcnn.training.checkpoint import Checkpoint, CheckpointWriter, restore_latest
from maskrcnn.training.evaluator import Evaluator
from maskrcnn.training.memory import estimate_memory
from maskrcnn.training.optimizer import averaged_weights, keep_averages_apart, make_optimizer
from maskrcnn.training.progress import Log, Plan, ProgressBar
from maskrcnn.training.resume import check_same_run, holds_run
from maskrcnn.training.schedule import make_schedule
from maskrcnn.training.signals import Interruption
from maskrcnn.weights.model_folder import save_config, save_model
from maskrcnn.weights.transfer import load_start

SYNTHETIC_STEPS = 100  # an epoch of synthetic data, unless told
CHECKPOINTS = "checkpoints"
logger = logging.getLogger(__name__)


def train(
    config: Config,
    *,
    data_dir: str | Path | None,
    model_dir: str | Path,
    eval_file: str | Path | None = None,
    backbone_checkpoint: str | Path | None = None,
    weights: str | Path | None = None,
    evaluate: bool = True,
    logs: LogOptions | None = None,
    devices: Devices | None = None,
) -> Metrics:
    """Trains a model into a folder, from where the last run on that folder ended; then evaluates it.

    Args:
        config: of the run; its categories are replaced by those of the data.
        data_dir: COCO data or TFRecords; None trains on random images, to measure speed.
        model_dir: gets config.json, checkpoints/, model.weights.h5, the log and metrics.json.
        eval_file: COCO annotations to evaluate with, instead of those of the val split.
        backbone_checkpoint: weights to start the backbone from, see `maskrcnn.weights.transfer.load_backbone`.
        weights: a whole model to start from, see `maskrcnn.weights.transfer.load_whole`.
        evaluate: whether to evaluate on the val split, as often as the config says and at the end.
        logs: where to log.
        devices: that share the work, from `maskrcnn.runtime.distribution.connect`; None is all of this machine.

    Returns:
        The metrics, see `maskrcnn.evaluation.coco_metrics.evaluate`, and the speed under "training".

    Raises:
        UserError: data, folder or settings that cannot work, or a loss that is not finite.
    """
    model_dir, logs, devices = Path(model_dir), logs or LogOptions(), devices or connect()
    with Interruption() as interruption, _claim(model_dir, devices), devices.scope():
        seed = _set_up(config, devices)
        with devices.main_process_first():  # converts the data where that is to be done
            split, val_split = _open_splits(config, data_dir, model_dir, eval_file, evaluate=evaluate)
        config = dataclasses.replace(config, categories=split.categories if split else SYNTHETIC_CATEGORIES)
        with devices.main_process_first():
            goes_on = holds_run(model_dir)
            check_same_run(config, model_dir)
            if devices.is_chief:
                save_config(config, model_dir)

        batch_size = config.train.batch_size * devices.replicas
        steps_per_epoch = config.train.steps_per_epoch or _steps_of_one_pass(batch_size, split)
        schedule = make_schedule(config.train, steps_per_epoch=steps_per_epoch, devices=devices.replicas)
        model = MaskRCNN(config)
        load_start(model, backbone_checkpoint=backbone_checkpoint, weights=weights)
        _compile(model, config, make_optimizer(config.train, schedule), devices)
        start = _restore(model, model_dir, Checkpoint(0, seed, batch_size), devices)
        plan = Plan(config.train.epochs, steps_per_epoch, batch_size, start.step, schedule, start.reported)
        if goes_on and devices.is_chief:
            cut_logs(plan, logs, model_dir)
        data = TrainingData(split, config, start.data_seed, devices)
        with contextlib.closing(_open_log(config, plan, data, logs, model_dir)) as log:
            _announce(plan, split)
            _announce_memory(model, config)
            if logs.graph:
                _write_graph(model, data, Path(logs.tensorboard or model_dir / "tensorboard"))
            evaluator = Evaluator(devices.predictor(model), config, val_split, log, model_dir, devices)
            run = Run(model, config, plan, start, data, evaluator, log, devices)
            with devices.report_lost_process():
                run_epochs(run, model_dir / CHECKPOINTS, interruption)
                return finish(run, model_dir)


@dataclass(frozen=True)
class Run:
    """All parts of a training run."""

    model: MaskRCNN
    config: Config
    plan: Plan
    start: Checkpoint  # what it goes on from
    data: TrainingData
    evaluator: Evaluator
    log: Log
    devices: Devices


def run_epochs(run: Run, checkpoints: Path, interruption: Interruption) -> None:
    """Trains from the start to the last epoch, with checkpoints and evaluations."""
    plan, train, devices = run.plan, run.config.train, run.devices
    evaluations = EvaluateEpochs(plan, train.evaluate_every, run.evaluator.evaluate)
    epoch, begun = divmod(plan.first_step, plan.steps_per_epoch)
    evaluated = devices.broadcast_object(evaluated_epochs(run.log.file.path) if devices.is_chief else None)
    if not begun and evaluations.due(epoch) and epoch not in evaluated:
        run.evaluator.evaluate(epoch)  # the run was stopped before it had
    with (
        contextlib.closing(CheckpointWriter(checkpoints, train.keep)) as writer,
        contextlib.closing(ProgressBar(plan, run.data.waited, shown=devices.is_chief)) as bar,
    ):
        stop = StopOnNonFinite(plan, writer, run.data.image_ids, devices)
        saves = SaveCheckpoints(
            plan, writer, run.start, devices, every=train.checkpoint_every, interruption=interruption, log=run.log
        )
        fit(run.model, run.data, plan, [stop, run.log, bar, saves, evaluations])


def finish(run: Run, model_dir: Path) -> Metrics:
    """Saves the trained model, evaluates it and writes the metrics."""
    with averaged_weights(run.model):  # of all processes together: under JAX they compare what they set
        if run.devices.is_chief:
            save_model(run.model, run.config, model_dir)
    memory = {f"peak_{where}_bytes": value for where, value in hardware.peak_memory()._asdict().items()}
    metrics = {**run.evaluator.evaluate(run.plan.epochs), "training": {**run.log.speed(), **memory}}
    run.log.file.log((), {**flatten(metrics), **metrics["training"]})
    if run.devices.is_chief:
        write_metrics(metrics, model_dir)
    run.devices.all_gather_object(None)  # none leaves before all have come so far
    return metrics


def fit(model: MaskRCNN, data: TrainingData, plan: Plan, callbacks: list[keras.callbacks.Callback]) -> None:
    """Keras' `fit`, from the plan's first step: the rest of an epoch that was begun, then whole ones."""
    step = plan.first_step
    while step < plan.total_steps:
        epoch, done = divmod(step, plan.steps_per_epoch)
        model.fit(
            data.batches(step),
            initial_epoch=epoch,
            epochs=epoch + 1 if done else plan.epochs,
            steps_per_epoch=plan.steps_per_epoch - done,
            callbacks=callbacks,
            shuffle=False,  # the dataset does that
            verbose=0,
        )
        step = (epoch + 1) * plan.steps_per_epoch if done else plan.total_steps


def cut_logs(plan: Plan, logs: LogOptions, model_dir: Path) -> None:
    """Takes out of the logs what this run will tell again."""
    path = Path(logs.file or model_dir / LOG_FILE)
    cut_log(path, step=plan.first_step, steps_per_epoch=plan.steps_per_epoch, epochs=plan.epochs)
    if logs.tensorboard:
        cut_events(Path(logs.tensorboard), step=plan.first_step, total_steps=plan.total_steps)


def _claim(model_dir: Path, devices: Devices) -> contextlib.AbstractContextManager[None]:
    return claimed(model_dir) if devices.is_chief else contextlib.nullcontext()


def _set_up(config: Config, devices: Devices) -> int:
    """Sets precision and random numbers; returns the seed of the data's order."""
    backend.set_precision(config.train.precision)
    if config.train.seed is not None:
        backend.set_seed(config.train.seed, xla=config.train.xla)
        return config.train.seed
    seed = devices.broadcast_object(random.randrange(2**31))
    if devices.world_size > 1:  # which must begin with the same weights
        keras.utils.set_random_seed(seed)
    return seed


def _open_splits(
    config: Config, data_dir: str | Path | None, model_dir: Path, eval_file: str | Path | None, *, evaluate: bool
) -> tuple[Split | None, Split | None]:
    """The split to train on and the one to evaluate on, as far as there are any."""
    if not data_dir:
        return None, None
    split = open_split(data_dir, "train", cache_dir=model_dir, skip_bad=config.data.skip_bad)
    config = dataclasses.replace(config, categories=split.categories)
    return split, open_eval_split(config, data_dir, model_dir, eval_file=eval_file) if evaluate else None


def _compile(model: MaskRCNN, config: Config, optimizer: keras.optimizers.Optimizer, devices: Devices) -> None:
    model.compile(optimizer, **devices.compile_options(xla=config.train.xla, eagerly=config.train.eagerly))
    model.optimizer.build(model.trainable_variables)  # not inside the first step, where it takes TensorFlow far longer
    keep_averages_apart(model)
    patch_keras_trainer(model, devices)


def _restore(model: MaskRCNN, model_dir: Path, start: Checkpoint, devices: Devices) -> Checkpoint:
    """The state of the last checkpoint, or else ``start``."""
    directory = model_dir / CHECKPOINTS
    if devices.is_chief:
        remove_stale(directory)
    found = restore_latest(model, directory) or start
    if found.batch_size not in (0, start.batch_size):
        raise UserError(
            f"{directory}: the run has had {found.batch_size} images a step so far, not {start.batch_size}; give the "
            "same number of devices times --train_batch_size"
        )
    if len(set(devices.all_gather_object(found.step))) > 1:
        raise UserError(f"{directory}: not all processes see the same checkpoints; put --model_dir on a shared disk")
    return dataclasses.replace(found, batch_size=start.batch_size)


def _steps_of_one_pass(batch_size: int, split: Split | None) -> int:
    return max(1, split.num_examples // batch_size) if split else SYNTHETIC_STEPS


def _announce(plan: Plan, split: Split | None) -> None:
    images = f"{split.num_examples} images of {len(split.categories)} classes" if split else "random images"
    logger.info(
        "training on %s: %d epochs of %d steps, %s",
        images,
        plan.epochs,
        plan.steps_per_epoch,
        hardware.describe_devices(),
    )
    if plan.first_step:
        logger.info("going on after step %d of %d", plan.first_step, plan.total_steps)


def _announce_memory(model: MaskRCNN, config: Config) -> None:
    estimate = estimate_memory(config, model.variables, model.trainable_variables)
    for line in estimate.describe(config.train.batch_size, hardware.device_memory()):
        logger.info("%s", line)


def _open_log(config: Config, plan: Plan, data: TrainingData, logs: LogOptions, model_dir: Path) -> Log:
    file = DLLLog(logs.file or model_dir / LOG_FILE) if data.devices.is_chief else DLLLog(os.devnull)
    file.parameters(dataclasses.asdict(config))
    writer = None
    if logs.tensorboard and data.devices.is_chief:
        from tensorboard.summary import Writer  # imports TensorFlow: only if asked for

        writer = Writer(str(logs.tensorboard))
    return Log(plan, data.waited, file=file, every=logs.every, warmup_steps=logs.warmup_steps, writer=writer)


def _write_graph(model: MaskRCNN, data: TrainingData, directory: Path) -> None:
    batch = next(iter(data.batches(0)))
    operations = compiler.write_graph(lambda inputs: model(inputs, training=True), batch, str(directory))
    common = ", ".join(f"{count} {name}" for name, count in operations.most_common(10))
    logger.info("graph of %d operations (%s, ...) written to %s", operations.total(), common, directory)
