"""Compares training steps with torchvision's recorded losses and gradients."""

import json
import warnings
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
from keras import ops

from maskrcnn.config import BoxHeadConfig, Config, MaskHeadConfig, RPNConfig
from maskrcnn.data.records.rasterize import resample_mask
from maskrcnn.model import MaskRCNN
from maskrcnn.weights.rules import TORCHVISION, convert
from maskrcnn.weights.variables import model_variables
from tests.parity.goldens import FOLDER, Array, Batch, Row, build_model, golden_config, training_batch

# torchvision's names in the golden file -> ours
LOSSES = {
    "loss_classifier": "class_loss",
    "loss_box_reg": "box_loss",
    "loss_mask": "mask_loss",
    "loss_objectness": "rpn_class_loss",
    "loss_rpn_box_reg": "rpn_box_loss",
}
ANCHORS, CANDIDATES = 20460, 104  # of the recorded image: anchors; proposals and ground truth


def training_config() -> Config:
    """The settings of the recorded step: both samplers take every positive and every negative."""
    return golden_config(
        "v1",
        rpn=RPNConfig(train_candidates=200, train_proposals=100, samples=2 * ANCHORS),
        box_head=BoxHeadConfig(samples=2 * CANDIDATES, positive_fraction=0.5),
        mask_head=MaskHeadConfig(),
    )


class RecordingSGD(keras.optimizers.SGD):
    """SGD that keeps the gradients of each step, on any backend, compiled or not."""

    def build(self, variables: list[Any]) -> None:
        if not self.built:
            super().build(variables)
            self.gradients = [self.add_variable_from_reference(variable, "gradient") for variable in variables]

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        self.assign(self.gradients[self._get_variable_index(variable)], ops.cast(gradient, variable.dtype))
        super().update_step(gradient, variable, learning_rate)


def compile_recorder(model: MaskRCNN, *, jit: bool) -> RecordingSGD:
    """Compiles a model with the optimizer of the ten recorded steps."""
    record = _ten_steps()
    recorder = RecordingSGD(record["learning_rate"], momentum=record["momentum"])
    model.compile(optimizer=recorder, jit_compile=jit)
    return recorder


def run_step(model: MaskRCNN, batch: Batch) -> dict[str, float]:
    """The losses of a step; the model must have been compiled."""
    model.reset_metrics()
    return {name: float(value) for name, value in model.train_on_batch(batch, return_dict=True).items()}


def compare_losses(losses: dict[str, float], golden: dict[str, Array], *, key: str = "loss.values") -> Iterator[Row]:
    for name, expected in zip(golden["loss.names"].tolist(), golden[key].tolist(), strict=True):
        error = abs(losses[LOSSES[name]] - expected) / (abs(expected) or 1.0)
        yield Row(f"{LOSSES[name]}, relative", error, 1e-4)


def compare_steps(model: MaskRCNN, first: dict[str, float], *, steps: int = 10) -> Iterator[Row]:
    """The largest difference of the summed loss over the first N steps; ``first`` are the losses of step 1."""
    expected = [sum(losses.values()) for losses in _ten_steps()["losses"][:steps]]
    actual = [first["loss"], *(run_step(model, training_batch())["loss"] for _ in expected[1:])]
    errors = [abs(a / b - 1) for a, b in zip(actual, expected, strict=True)]
    yield Row("loss, relative", max(errors), 1e-3)


def _ten_steps() -> dict[str, Any]:
    """The recorded learning rate, momentum and losses of ten steps."""
    return json.loads((FOLDER / "ten_steps.json").read_text(encoding="utf-8"))


def compare_gradients(
    model: MaskRCNN, recorder: RecordingSGD, golden: dict[str, Array], state: dict[str, Array]
) -> Iterator[Row]:
    """The norm and 16 samples of each gradient; the recorded ones are in torch's layout."""
    gradients = recorded_gradients(model, recorder)
    places = index_map(state)
    assert len(gradients) == len(golden["grad.names"]), "not every parameter is trained"
    norms, samples = [], []
    for row, name in enumerate(golden["grad.names"].tolist()):
        target, positions = places[name]
        gradient = gradients[target].astype(np.float64).ravel()
        expected = float(golden["grad.norm"][row])
        norms.append(abs(np.linalg.norm(gradient) - expected) / expected)
        sample = gradient[positions[golden["grad.index"][row]]]
        scale = expected / np.sqrt(gradient.size)
        samples.append(float(np.abs(sample - golden["grad.sample"][row]).max()) / scale)
    yield Row("gradient norms, relative", max(norms), 3e-3)
    yield Row("gradient samples, relative to norm / sqrt(size)", max(samples), 3e-2)


def recorded_gradients(model: MaskRCNN, recorder: RecordingSGD) -> dict[str, Array]:
    names = {id(variable): name for name, variable in model_variables(model).items()}
    return {
        names[id(variable)]: np.asarray(ops.convert_to_numpy(gradient))
        for variable, gradient in zip(model.trainable_variables, recorder.gradients, strict=True)
    }


def index_map(state: dict[str, Array]) -> dict[str, tuple[str, Array]]:
    """For each of torch's parameters our name, and where each of its elements is in our flat layout."""
    numbered = {name: np.arange(value.size).reshape(value.shape) for name, value in state.items()}
    places = {}
    for target, tensor in convert(numbered, TORCHVISION, path="goldens").items():
        positions = np.empty(tensor.value.size, np.int64)
        positions[tensor.value.ravel()] = np.arange(tensor.value.size)
        places[tensor.source] = (target, positions)
    return places


class OneLoss(MaskRCNN):
    """The model, trained on one loss alone."""

    loss_name = LOSSES["loss_rpn_box_reg"]

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        super().compute_loss(x, y, y_pred, sample_weight, training)
        return dict(y_pred)[self.loss_name]


def compare_rpn_box_gradients(batch: Batch, golden: dict[str, Array], state: dict[str, Array], *, jit: bool) -> Row:
    """The gradient of the RPN's box loss alone, which is too small to show in that of the sum."""
    model = build_model(training_config(), state, kind=OneLoss)
    recorder = compile_recorder(model, jit=jit)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Gradients do not exist")  # as they should not
        run_step(model, batch)
    gradients = recorded_gradients(model, recorder)
    places = index_map(state)
    row = golden["loss.names"].tolist().index("loss_rpn_box_reg")
    errors = []
    for name, expected in zip(golden["grad.names"].tolist(), golden["grad.norm_per_loss"][row].tolist(), strict=True):
        norm = np.linalg.norm(gradients[places[name][0]].astype(np.float64))
        errors.append(abs(norm - expected) / (expected or 1.0))
    return Row("rpn_box_loss: gradient norms, relative", max(errors), 3e-3)


class Losses(keras.Model):
    """The five losses of a step, without gradients."""

    def __init__(self, model: MaskRCNN):
        super().__init__(autocast=False)
        self.model = model
        self.built = True

    def call(self, inputs, training=False) -> dict[str, Any]:
        return {name: ops.expand_dims(value, 0) for name, value in self.model(inputs, training=True).items()}


def run_losses(model: MaskRCNN, batch: Batch, *, jit: bool) -> dict[str, float]:
    losses = Losses(model)
    losses.compile(jit_compile=jit, run_eagerly=not jit)
    return {name: float(value[0]) for name, value in losses.predict_on_batch(batch).items()}


def with_box_masks(batch: Batch) -> Batch:
    """The same ground truth in the form of the data pipeline: masks of 112 x 112 in their boxes."""
    masks = [
        resample_mask(mask, tuple(map(float, box)))
        for mask, box in zip(batch["masks"][0], batch["boxes"][0], strict=True)
    ]
    return {**batch, "masks": np.stack(masks)[None].astype(np.uint8), "mask_regions": batch["boxes"]}
