"""Training, on one page: session, data, config, plan, model, state, fit, finish."""

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras

from maskrcnn.config import Config
from maskrcnn.evaluation.coco_metrics import Metrics
from maskrcnn.runtime.distribution import connect
from maskrcnn.training.batches import TrainingData
from maskrcnn.training.callbacks import training_callbacks
from maskrcnn.training.evaluator import Evaluator
from maskrcnn.training.log import open_log, write_graph
from maskrcnn.training.model_setup import build_model, prepare_backend
from maskrcnn.training.options import RunOptions, Start, check_arguments
from maskrcnn.training.plan import Plan, State, announce, make_plan
from maskrcnn.training.presets import Recipe
from maskrcnn.training.session import Session


def train(
    config: Config | Recipe,
    *,
    data_dir: str | Path | None,
    model_dir: str | Path,
    start: Start | None = None,
    options: RunOptions | None = None,
    callbacks: Sequence[keras.callbacks.Callback] = (),
) -> Metrics:
    """Trains a model in a folder, resuming the run that is there if there is one; then evaluates it.

    Args:
        config: of the run, or a recipe that chooses it when the dataset is known; its categories come from the data.
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
    start, options = check_arguments(config, start, options, callbacks)
    devices = options.devices or connect()
    with Session(model_dir, devices) as session:
        splits, model_dir = session.open(config, data_dir, options), session.model_dir
        data_path = Path(data_dir) if data_dir is not None else None
        config = session.freeze(config, splits)
        data_seed = prepare_backend(config.train, devices)
        plan = make_plan(config.train, splits.train, devices.replicas)
        model = build_model(config, start, plan, devices)
        state = session.restore(model, plan) or State(0, data_seed, plan.batch_size)
        announce(plan, state, splits.train, model_dir)
        data = TrainingData(splits.train, config, state.data_seed, devices)
        with contextlib.closing(open_log(config, plan, state, data, options.logs, model_dir)) as log:
            if options.logs.graph:
                write_graph(model, data, Path(options.logs.tensorboard or model_dir / "tensorboard"))
            evaluator = Evaluator(devices.predictor(model), config, splits.val, log, model_dir, devices, data_path)
            with training_callbacks(plan, state, data, evaluator, session, callbacks) as all_callbacks:
                fit(model, data, plan, state, all_callbacks)
            session.check_folder()
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
