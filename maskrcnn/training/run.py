"""Training, on one page: session, data, config, plan, model, state, fit, finish."""

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras

from maskrcnn.config import Config
from maskrcnn.evaluation.coco_metrics import Metrics
from maskrcnn.logs.progress import ProgressBar
from maskrcnn.runtime.distribution import connect
from maskrcnn.training.batches import TrainingData
from maskrcnn.training.callbacks import CountSteps, EvaluateEpochs, SaveCheckpoints, ShowProgress, StopOnNonFinite
from maskrcnn.training.checkpoint import CheckpointWriter
from maskrcnn.training.evaluator import Evaluator
from maskrcnn.training.log import open_log, write_graph
from maskrcnn.training.plan import Plan, State, announce, make_plan
from maskrcnn.training.session import RunOptions, Session
from maskrcnn.training.start import Start, build_model, prepare_backend


def train(
    config: Config,
    *,
    data_dir: str | Path | None,
    model_dir: str | Path,
    start: Start | None = None,
    options: RunOptions | None = None,
    callbacks: Sequence[keras.callbacks.Callback] = (),
) -> Metrics:
    """Trains a model in a folder, resuming the run that is there if there is one; then evaluates it.

    Args:
        config: of the run; its categories are replaced by those of the data.
        data_dir: COCO data or TFRecords; None trains on random images, to measure speed.
        model_dir: gets config.json, checkpoints/, model.weights.h5, the log and metrics.json.
        start: the model's first weights, and how it is built; None starts from random weights.
        options: evaluation, logs and devices.
        callbacks: more Keras callbacks, called after each step before a checkpoint is saved. A run that resumes within
            an epoch calls `fit` twice, and so `on_train_begin` and `on_train_end`.

    Returns:
        The metrics, see `maskrcnn.evaluation.coco_metrics.evaluate`, and the speed under "training".

    Raises:
        UserError: data, a folder or settings that cannot be used, or a loss that is not finite.
    """
    model_dir, start, options = Path(model_dir), start or Start(), options or RunOptions()
    devices = options.devices or connect()
    with Session(model_dir, devices) as session:
        data_seed = prepare_backend(config.train, devices)
        splits = session.open(config, data_dir, options)
        config = session.freeze(config, splits)
        plan = make_plan(config.train, splits.train, devices.replicas)
        model = build_model(config, start, plan, devices)
        state = session.restore(model, plan) or State(0, data_seed, plan.batch_size)
        announce(plan, state, splits.train, model_dir)
        data = TrainingData(splits.train, config, state.data_seed, devices)
        with contextlib.closing(open_log(config, plan, state, data, options.logs, model_dir)) as log:
            if options.logs.graph:
                write_graph(model, data, Path(options.logs.tensorboard or model_dir / "tensorboard"))
            evaluator = Evaluator(devices.predictor(model), config, splits.val, log, model_dir, devices)
            with (
                contextlib.closing(CheckpointWriter(session.checkpoints, config.train.keep)) as writer,
                ProgressBar(plan.total_steps, state.step, shown=devices.is_chief) as bar,
            ):
                fit(model, data, plan, state, [
                    CountSteps(state),
                    StopOnNonFinite(state, session.checkpoints, data.image_ids, devices),
                    log,
                    ShowProgress(plan, state, bar, data.waited),
                    *callbacks,
                    SaveCheckpoints(plan, state, writer, config.train.checkpoint_every, session.interruption, devices),
                    EvaluateEpochs(plan, state, evaluator, config.train.evaluate_every),
                ])  # fmt: skip
            return evaluator.finish(plan.position(state.step)[0])


def fit(
    model: Any, data: TrainingData, plan: Plan, state: State, callbacks: Sequence[keras.callbacks.Callback]
) -> None:
    """Calls Keras' `fit` from the state's step on: for the rest of an epoch that was begun, then for whole ones."""
    while state.step < plan.total_steps:
        epoch, done = divmod(state.step, plan.steps_per_epoch)
        model.fit(
            data.batches(state.step),
            initial_epoch=epoch,
            epochs=epoch + 1 if done else plan.epochs,
            steps_per_epoch=plan.steps_per_epoch - done,
            callbacks=list(callbacks),
            shuffle=False,  # the dataset does that
            verbose=0,
        )
        if model.stop_training:  # by a callback, such as Keras' EarlyStopping
            break
