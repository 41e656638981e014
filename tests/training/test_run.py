"""Training around the model: files, resuming, seeds, logs. The model is a stand-in; tests/cli trains the real one."""

import functools
import json
import os
import shutil
import signal

import keras
import numpy as np
import pytest

from maskrcnn.config import load_config
from maskrcnn.errors import UserError
from maskrcnn.logs.dllogger import LogOptions
from maskrcnn.logs.history import read_history
from maskrcnn.reports.charts import draw_charts
from maskrcnn.training.checkpoint import list_checkpoints
from maskrcnn.training.options import RunOptions, Start
from maskrcnn.training.run import train as train_model
from tests.stand_in import StandIn, use_stand_in


@pytest.fixture
def config(micro):
    return micro.override({"train.epochs": 2, "train.steps_per_epoch": 4, "train.learning_rate_boundaries": [1, 2, 3]})


def train_stand_in(config, data_dir, model_dir, callbacks=(), **options):
    start, options = Start(build_model=StandIn), RunOptions(**options)
    return train_model(
        config, data_dir=data_dir, model_dir=model_dir, start=start, options=options, callbacks=callbacks
    )


@pytest.fixture
def train(stand_in):
    """`train` with the stand-in."""
    return train_stand_in


@pytest.fixture(scope="module")
def run_once(shapes_dir, tmp_path_factory):
    """``run_once(config)``: the folder of a whole run, the same one for the same arguments; not to be changed."""

    @functools.cache
    def run(config, **options):
        folder = tmp_path_factory.mktemp("run") / "m"
        with pytest.MonkeyPatch.context() as patch:
            use_stand_in(patch)
            train_stand_in(config, shapes_dir, folder, **options)
        return folder

    return run


@pytest.fixture
def finished(run_once, config, tmp_path):
    """A copy of the folder in which a run of the config has finished."""
    return shutil.copytree(run_once(config, evaluate=False), tmp_path / "finished")


@pytest.fixture
def weights(stand_in):
    """Reads the weights of a model folder."""

    def weights(model_dir):
        model = stand_in(load_config(model_dir / "config.json"))
        model.load_weights(model_dir / "model.weights.h5")
        return model.get_weights()

    return weights


def test_leaves_a_whole_folder(train, config, shapes_dir, tmp_path, monkeypatch):
    monkeypatch.setattr("maskrcnn.reports.run_report.draw_charts", draw_charts)
    config = config.override({"train.evaluate_every": 1})
    metrics = train(config, shapes_dir, tmp_path, logs=LogOptions(every=3, warmup_steps=2))
    assert metrics["images"] == 3
    assert metrics["training"]["train_throughput"] > 0
    assert metrics["training"]["peak_host_bytes"] > 2**20
    assert json.loads((tmp_path / "metrics.json").read_text()) == metrics
    assert [category.name for category in load_config(tmp_path / "config.json").categories][:2] == ["circle", "square"]
    assert {path.name for path in tmp_path.iterdir()} == {
        "config.json", "metrics.json", "model.weights.h5", "mrcnn-dlll.json", "checkpoints", "best", "report.html",
        "predictions.json",
    }  # fmt: skip
    assert (tmp_path / "report.html").read_text().count("data:image/svg+xml") == 5  # a chart of each quantity
    history = read_history(tmp_path / "mrcnn-dlll.json")
    reports = [(entry["epoch"], entry["step"]) for entry in history if "loss" in entry]
    assert reports == [(1, 3), (1, 4), (2, 6), (2, 8)]
    assert [entry["epoch"] for entry in history if "bbox_AP" in entry] == [1, 2]


def test_same_seed_same_weights(train, weights, config, shapes_dir, tmp_path, finished):
    for name, seed in (("same", 1), ("other", 2)):
        train(config.override({"train.seed": seed}), shapes_dir, tmp_path / name, evaluate=False)
    first, second, other = (weights(folder) for folder in (finished, tmp_path / "same", tmp_path / "other"))
    for a, b in zip(first, second, strict=True):
        np.testing.assert_array_equal(a, b)
    assert any((a != c).any() for a, c in zip(first, other, strict=True))


class Killed(BaseException):
    """Stands for SIGKILL: nothing that the program does after it counts."""


class KillAt(keras.callbacks.Callback):
    """Kills the run before a step, from 0."""

    def __init__(self, step: int):
        super().__init__()
        self.step = step

    def on_train_batch_begin(self, batch, logs=None):
        if self.model.optimizer._iterations == self.step:
            raise Killed


@pytest.mark.parametrize("moment", [5, "evaluation", "last save"])
def test_a_killed_run_resumes_to_the_same_end(
    train, run_once, weights, config, shapes_dir, tmp_path, moment, monkeypatch
):
    """Killed in a step, in an evaluation between epochs, and in the last save; gradients accumulate over 3 steps."""
    changes = {"train.checkpoint_every": 2, "train.evaluate_every": 1, "train.ema": 0.5, "train.accumulate": 3}
    config, logs = config.override(changes), LogOptions(every=1)
    whole = run_once(config, logs=logs)

    def die(*_, **__):
        raise Killed

    functions = {"evaluation": "training.evaluator.evaluate_split", "last save": "weights.model_folder.save_model"}
    with monkeypatch.context() as patch:
        if moment in functions:
            patch.setattr(f"maskrcnn.{functions[moment]}", die)
        if moment == "last save":
            patch.setattr("maskrcnn.training.evaluator.keep_best", lambda *_: None)
        with pytest.raises(Killed):
            train(config, shapes_dir, tmp_path / "killed", [KillAt(moment if moment == 5 else 99)], logs=logs)
    train(config, shapes_dir, tmp_path / "killed", logs=logs)
    for a, b in zip(weights(whole), weights(tmp_path / "killed"), strict=True):
        np.testing.assert_array_equal(a, b)
    expected, actual = (read_history(folder / "mrcnn-dlll.json") for folder in (whole, tmp_path / "killed"))
    assert [(entry["step"], entry.get("bbox_AP")) for entry in actual] == [
        (entry["step"], entry.get("bbox_AP")) for entry in expected
    ]


def test_early_stopping_ends_the_run_with_a_model(train, weights, config, shapes_dir, tmp_path):
    class Stop(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            self.model.stop_training = True

    train(config.override({"train.evaluate_every": 1}), shapes_dir, tmp_path, [Stop()])
    assert [path.name for path in list_checkpoints(tmp_path / "checkpoints")] == ["step-00000004.npz"]
    assert read_history(tmp_path / "mrcnn-dlll.json")[-1]["epoch"] == 1
    assert weights(tmp_path)


def test_averaged_weights_are_the_ones_saved(train, weights, config, shapes_dir, tmp_path, finished):
    train(config.override({"train.ema": 0.9}), shapes_dir, tmp_path / "averaged", evaluate=False)
    folders = (finished, tmp_path / "averaged")
    plain, averaged = (weights(folder)[0] for folder in folders)
    assert (plain != averaged).any()
    states = [np.load(list_checkpoints(folder / "checkpoints")[-1]) for folder in folders]
    raw = [next(state[name] for name in state.files if state[name].shape == plain.shape) for state in states]
    np.testing.assert_array_equal(raw[0], raw[1])  # the training itself does not see them
    np.testing.assert_array_equal(raw[0], plain)


def test_the_best_model_is_kept(train, weights, config, shapes_dir, tmp_path, monkeypatch):
    scores = iter([0.5, 0.7, 0.6])

    def evaluate_split(*_, **__):
        return {"segm": {"AP": next(scores)}, "bbox": {"AP": 0.1}}

    monkeypatch.setattr("maskrcnn.training.evaluator.evaluate_split", evaluate_split)
    monkeypatch.setattr("maskrcnn.training.evaluator.explain", lambda evaluation, _: evaluation.metrics)
    changes = {"train.evaluate_every": 1, "train.epochs": 3, "train.keep": 3}
    train(config.override(changes), shapes_dir, tmp_path)
    best = json.loads((tmp_path / "best" / "metrics.json").read_text())
    assert (best["epoch"], best["segm"]["AP"]) == (2, 0.7)
    kernel = weights(tmp_path / "best")[0]
    with np.load(tmp_path / "checkpoints" / "step-00000008.npz") as second:
        assert any(np.array_equal(second[name], kernel) for name in second.files)
    assert (kernel != weights(tmp_path)[0]).any()


@pytest.mark.parametrize("stop_after", [3, 4])  # steps: within the first epoch, at its end
def test_an_interrupted_run_resumes_to_the_same_end(
    train, weights, config, shapes_dir, tmp_path, finished, stop_after, caplog
):
    class Interrupt(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            if batch + 1 == stop_after:
                os.kill(os.getpid(), signal.SIGINT)

    handler = signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where tests run in the background
    with pytest.raises(KeyboardInterrupt):
        train(config, shapes_dir, tmp_path / "stopped", [Interrupt()], evaluate=False)
    signal.signal(signal.SIGINT, handler)
    assert list_checkpoints(tmp_path / "stopped" / "checkpoints")[-1].name == f"step-{stop_after:08d}.npz"
    with caplog.at_level("INFO"):
        train(config, shapes_dir, tmp_path / "stopped", evaluate=False)
    assert f"resuming from step {stop_after} of 8" in caplog.text
    for a, b in zip(weights(finished), weights(tmp_path / "stopped"), strict=True):
        np.testing.assert_array_equal(a, b)


def test_more_epochs_continue_a_finished_run(train, weights, config, shapes_dir, tmp_path, finished, caplog):
    short = config.override({"train.epochs": 1})
    train(short, shapes_dir, tmp_path / "a", evaluate=False)
    with caplog.at_level("INFO"):
        train(short, shapes_dir, tmp_path / "a", evaluate=False)
    assert "this run is finished; train it longer with more --epochs, or start another run from it" in caplog.text
    assert f"--weights {tmp_path / 'a'} --model_dir NEW" in caplog.text
    assert "resuming" not in caplog.text
    with caplog.at_level("INFO"):
        train(config, shapes_dir, tmp_path / "a", evaluate=False)
    assert "resuming from step 4 of 8" in caplog.text
    for a, b in zip(weights(tmp_path / "a"), weights(finished), strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_model_without_checkpoints_is_not_overwritten(train, config, shapes_dir, finished):
    shutil.rmtree(finished / "checkpoints")
    before = {path.name: path.read_bytes() for path in finished.iterdir()}
    with pytest.raises(UserError, match="no checkpoints to resume from; give another --model_dir, and --weights"):
        train(config.override({"train.momentum": 0.5}), shapes_dir, finished, evaluate=False)
    assert {path.name: path.read_bytes() for path in finished.iterdir()} == before


def test_every_evaluation_is_logged_in_a_line(train, config, shapes_dir, tmp_path, caplog):
    with caplog.at_level("INFO"):
        metrics = train(config.override({"train.evaluate_every": 1}), shapes_dir, tmp_path)
    lines = [line for line in caplog.messages if line.startswith("epoch ")]
    assert [line.split(":")[0] for line in lines] == ["epoch 1", "epoch 2"]
    box, mask, mask50 = metrics["bbox"]["AP"], metrics["segm"]["AP"], metrics["segm"]["AP50"]
    assert lines[1] == f"epoch 2: box AP {box:.3f}, mask AP {mask:.3f}, mask AP50 {mask50:.3f}"


def test_synthetic_data_and_one_pass(train, config, shapes_dir, tmp_path):
    config = config.override({"train.steps_per_epoch": None, "train.epochs": 1})
    train(config, shapes_dir, tmp_path / "a", evaluate=False)
    assert list_checkpoints(tmp_path / "a" / "checkpoints")[-1].name == "step-00000003.npz"  # 6 images by 2
    metrics = train(config.override({"train.steps_per_epoch": 2}), None, tmp_path / "b")
    assert "bbox" not in metrics
    assert load_config(tmp_path / "b" / "config.json").num_classes == 81


def test_another_run_in_the_folder_is_refused(train, config, shapes_dir, finished):
    with pytest.raises(UserError, match=r"train\.momentum 0\.9 -> 0\.5"):
        train(config.override({"train.momentum": 0.5}), shapes_dir, finished, evaluate=False)
    with pytest.raises(UserError, match=r"model of 5 classes \(circle.*the data has 80 classes \(class 1"):
        train(config, None, finished)


def test_non_finite_loss_stops_the_run(train, config, shapes_dir, tmp_path):
    config = config.override({"train.learning_rate_values": [1e6] * 3, "train.init_learning_rate": 1e6})
    with pytest.raises(UserError, match=r"step \d with the images \d, \d: .*loss.* is not finite"):
        train(config, shapes_dir, tmp_path, evaluate=False)


def test_a_lower_rate_in_the_same_folder_resumes_after_a_loss_that_was_not_finite(
    train, weights, config, shapes_dir, tmp_path, caplog
):
    """As the error advises; the first epoch, which was saved, is not repeated."""

    class Explode(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            if self.model.optimizer._iterations == 6:
                self.model.dense.kernel.assign(self.model.dense.kernel * 1e30)

    with pytest.raises(UserError, match=r"lower --learning_rate_values"):
        train(config, shapes_dir, tmp_path, [Explode()], evaluate=False)
    caplog.set_level("INFO", logger="maskrcnn")
    lower = config.override({"train.learning_rate_values": [1e-4, 1e-5, 1e-6], "train.clip_norm": 1.0})
    train(lower, shapes_dir, tmp_path, evaluate=False)
    assert "resuming from step 4 of 8" in caplog.text
    assert "resuming with other settings: train.learning_rate_values" in caplog.text
    assert all(np.isfinite(value).all() for value in weights(tmp_path))


@pytest.mark.parametrize("moment", ["step", "end"])
def test_a_run_whose_folder_is_deleted_stops(train, config, shapes_dir, tmp_path, moment):
    folder, steps = tmp_path / "m", []

    class Delete(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            steps.append(batch)
            if len(steps) == (2 if moment == "step" else 8):
                shutil.rmtree(folder)

    with pytest.raises(UserError, match=r"m: was deleted or moved while it was in use"):
        train(config, shapes_dir, folder, [Delete()], evaluate=False)
    assert len(steps) == (2 if moment == "step" else 8)
    assert not folder.exists()


@pytest.mark.parametrize("missing", ["checkpoints", "config.json"])
def test_a_finished_model_is_not_trained_over(train, config, shapes_dir, finished, missing):
    before = (finished / "model.weights.h5").read_bytes()
    shutil.rmtree(finished / missing) if missing == "checkpoints" else (finished / missing).unlink()
    with pytest.raises(UserError, match=rf"{finished}: .*give another --model_dir"):
        train(config.override({"train.epochs": 3}), shapes_dir, finished, evaluate=False)
    assert (finished / "model.weights.h5").read_bytes() == before


def test_accumulation_updates_at_every_second_step(train, weights, config, shapes_dir, tmp_path):
    kernels = {}
    for accumulate, steps in [(1, 1), (1, 2), (2, 1), (2, 2)]:
        settings = {
            "train.epochs": 1,
            "train.steps_per_epoch": steps,
            "train.accumulate": accumulate,
            "train.learning_rate_boundaries": [0, 1, 2],
        }
        folder = tmp_path / f"{accumulate}-{steps}"
        train(config.override(settings), shapes_dir, folder, evaluate=False)
        kernels[accumulate, steps] = weights(folder)[0]
    start = kernels[2, 1]  # one step of two is not an update
    assert (kernels[1, 1] != start).any()
    assert (kernels[2, 2] != start).any()
    assert (kernels[2, 2] != kernels[1, 2]).any()


def test_logs_for_tensorboard(train, config, shapes_dir, tmp_path):
    logs = LogOptions(tmp_path / "log.json", 1, 0, tmp_path / "board", graph=keras.backend.backend() == "tensorflow")
    train(config.override({"train.epochs": 1}), shapes_dir, tmp_path / "m", evaluate=False, logs=logs)
    assert (tmp_path / "log.json").is_file()
    events = [path.read_bytes() for path in (tmp_path / "board").iterdir()]
    assert any(b"learning_rate" in content for content in events)
    assert any(b"graph_run_metadata" in c or b"MatMul" in c for c in events) == logs.graph


@pytest.mark.skipif(keras.backend.backend() == "tensorflow", reason="TensorFlow has graphs")
def test_graph_needs_tensorflow(train, config, shapes_dir, tmp_path):
    with pytest.raises(UserError, match="--log_graph needs the TensorFlow backend"):
        train(config, shapes_dir, tmp_path, logs=LogOptions(graph=True))
