"""Training, on one page: data, model, schedule, optimizer, callbacks, fit."""

import contextlib
import dataclasses
import logging
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras

from maskrcnn import backend
from maskrcnn.callbacks import EvaluateEpochs, Log, Plan, ProgressBar, SaveCheckpoints, StopOnNonFinite
from maskrcnn.checkpoint import Checkpoint, restore_latest
from maskrcnn.config import Category, Config
from maskrcnn.data.pipeline import train_dataset
from maskrcnn.data.splits import Split, open_split
from maskrcnn.data.synthetic import synthetic_dataset
from maskrcnn.data.timing import DataWait
from maskrcnn.dlll import DLLLog, LogOptions
from maskrcnn.evaluate import Metrics
from maskrcnn.folder import check_same_run, save_config, save_model
from maskrcnn.model import MaskRCNN
from maskrcnn.schedule import make_optimizer, make_schedule
from maskrcnn.tasks import LOG_FILE, evaluate_split, flatten, open_val_split, write_metrics
from maskrcnn.weights.transfer import load_start

SYNTHETIC_CATEGORIES = tuple(Category(i, i, f"class {i}") for i in range(1, 81))  # as many as COCO has
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

    Returns:
        The metrics, see `maskrcnn.evaluate.evaluate`, and the speed under "training".

    Raises:
        UserError: data, folder or settings that cannot work, or a loss that is not finite.
    """
    model_dir, logs = Path(model_dir), logs or LogOptions()
    backend.set_precision(config.train.precision)
    if config.train.seed is not None:
        backend.set_seed(config.train.seed, xla=config.train.xla)

    split = open_split(data_dir, "train", cache_dir=model_dir, skip_bad=config.data.skip_bad) if data_dir else None
    config = dataclasses.replace(config, categories=split.categories if split else SYNTHETIC_CATEGORIES)
    val_split = open_val_split(config, data_dir, model_dir, eval_file=eval_file) if data_dir and evaluate else None
    check_same_run(config, model_dir)
    save_config(config, model_dir)

    steps_per_epoch = config.train.steps_per_epoch or _steps_of_one_pass(config, split)
    schedule = make_schedule(config.train, steps_per_epoch=steps_per_epoch)
    model = MaskRCNN(config)
    load_start(model, backbone_checkpoint=backbone_checkpoint, weights=weights)
    options = backend.compile_options(xla=config.train.xla, eagerly=config.train.eagerly)
    model.compile(make_optimizer(config.train, schedule), **options)
    model.optimizer.build(model.trainable_variables)  # not inside the first step, where it takes TensorFlow far longer
    checkpoint = restore_latest(model, model_dir / CHECKPOINTS) or Checkpoint(0, _data_seed(config))
    plan = Plan(config.train.epochs, steps_per_epoch, config.train.batch_size, checkpoint.step, schedule)
    data = TrainingData(split, config, checkpoint.data_seed)

    with contextlib.closing(_open_log(config, plan, data, logs, model_dir)) as log:
        _announce(plan, split)
        if logs.graph:
            _write_graph(model, data, Path(logs.tensorboard or model_dir / "tensorboard"))
        evaluator = Evaluator(model, config, val_split, log)
        evaluations = EvaluateEpochs(plan, config.train.evaluate_every, evaluator.evaluate)
        with (
            SaveCheckpoints(plan, model_dir / CHECKPOINTS, checkpoint.data_seed) as checkpoints,
            contextlib.closing(ProgressBar(plan, data.waited)) as bar,
        ):
            fit(model, data, plan, [StopOnNonFinite(plan), log, bar, evaluations, checkpoints])
        save_model(model, config, model_dir)
        memory = {f"peak_{where}_bytes": value for where, value in backend.peak_memory()._asdict().items()}
        metrics = {**evaluator.evaluate(plan.epochs), "training": {**log.speed(), **memory}}
        log.file.log((), {**flatten(metrics), **metrics["training"]})
    write_metrics(metrics, model_dir)
    return metrics


@dataclass(frozen=True)
class Evaluator:
    """Evaluates a model in training, and logs it; without a split it does nothing."""

    model: MaskRCNN
    config: Config
    split: Split | None
    log: Log

    def evaluate(self, epoch: int) -> Metrics:
        """The metrics after an epoch, from 1."""
        if self.split is None:
            return {}
        metrics = evaluate_split(self.model, self.config, self.split)
        self.log.evaluation(epoch, flatten(metrics))
        return metrics


class TrainingData:
    """The endless batches of a run, from any step on."""

    def __init__(self, split: Split | None, config: Config, seed: int):
        self.split, self.config, self.seed = split, config, seed
        self._wait = DataWait()

    def waited(self) -> float:
        """Seconds that training has waited for batches so far."""
        return self._wait.seconds

    def batches(self, first_step: int) -> Any:
        """A `tf.data.Dataset` of the batches from ``first_step`` on."""
        size = self.config.train.batch_size
        if self.split is None:
            return self._wait.measure(synthetic_dataset(self.config, batch_size=size))
        dataset = train_dataset(self.split, self.config, batch_size=size, seed=self.seed, skip_batches=first_step)
        return self._wait.measure(dataset)


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
            shuffle=False,  # the data set does that
            verbose=0,
        )
        step = (epoch + 1) * plan.steps_per_epoch if done else plan.total_steps


def _steps_of_one_pass(config: Config, split: Split | None) -> int:
    return max(1, split.num_examples // config.train.batch_size) if split else SYNTHETIC_STEPS


def _data_seed(config: Config) -> int:
    return random.randrange(2**31) if config.train.seed is None else config.train.seed


def _announce(plan: Plan, split: Split | None) -> None:
    images = f"{split.num_examples} images of {len(split.categories)} classes" if split else "random images"
    logger.info(
        "training on %s: %d epochs of %d steps, %s",
        images,
        plan.epochs,
        plan.steps_per_epoch,
        backend.describe_devices(),
    )
    if plan.first_step:
        logger.info("going on after step %d of %d", plan.first_step, plan.total_steps)


def _open_log(config: Config, plan: Plan, data: TrainingData, logs: LogOptions, model_dir: Path) -> Log:
    file = DLLLog(logs.file or model_dir / LOG_FILE)
    file.parameters(dataclasses.asdict(config))
    writer = None
    if logs.tensorboard:
        from tensorboard.summary import Writer  # imports TensorFlow: only if asked for

        writer = Writer(str(logs.tensorboard))
    return Log(plan, data.waited, file=file, every=logs.every, warmup_steps=logs.warmup_steps, writer=writer)


def _write_graph(model: MaskRCNN, data: TrainingData, directory: Path) -> None:
    batch = next(iter(data.batches(0)))
    operations = backend.write_graph(lambda inputs: model(inputs, training=True), batch, str(directory))
    common = ", ".join(f"{count} {name}" for name, count in operations.most_common(10))
    logger.info("graph of %d operations (%s, ...) written to %s", operations.total(), common, directory)
