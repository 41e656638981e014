"""The whole model against torchvision's recorded numbers; `make parity` compares more."""

from typing import Any

import keras
import numpy as np
import pytest

from maskrcnn.config import BoxHeadConfig
from tests.parity.goldens import (
    Row,
    build_model,
    first_image,
    golden_config,
    load_arrays,
    load_generator,
    make_state,
    set_state,
    training_batch,
    two_images,
)
from tests.parity.inference import compare, run_stages
from tests.parity.training import (
    compare_gradients,
    compare_losses,
    compare_steps,
    compile_recorder,
    run_losses,
    run_step,
    training_config,
    with_box_masks,
)

# JAX compiles the whole model in half a minute and a training step in minutes; operation by operation takes longer.
COMPILED = keras.backend.backend() == "jax"


@pytest.fixture(scope="module")
def state() -> dict[str, Any]:
    return make_state("v1")


@pytest.fixture(scope="module")
def model(state: dict[str, Any]) -> Any:
    return build_model(golden_config("v1"), state)


@pytest.fixture(scope="module")
def trained(state: dict[str, Any]) -> Any:
    """With the settings of the recorded step; not to be trained."""
    return build_model(training_config(), state)


@pytest.fixture(scope="module")
def stages(model: Any) -> dict[str, Any]:
    return run_stages(model, two_images(), jit=COMPILED)


def check(rows: list[Row]) -> None:
    assert rows
    wrong = [f"{row.stage}: {row.error:.3g} > {row.tolerance:.3g}" for row in rows if not row.passed]
    assert not wrong


def test_weights_are_those_of_the_recording(state: dict[str, Any]) -> None:
    fingerprint = load_generator().fingerprint
    expected = load_arrays("inference_v1")["weights.fingerprint"]
    np.testing.assert_allclose(np.stack([fingerprint(v) for v in state.values()]), expected, rtol=1e-9, atol=1e-6)


def test_every_stage_equals_torchvision(stages: dict[str, Any]) -> None:
    check(compare(stages, load_arrays("inference_v1")))


def test_smaller_image_of_a_batch_equals_torchvision(stages: dict[str, Any]) -> None:
    check(compare(stages, load_arrays("inference_batch"), image=1))


def test_losses_equal_torchvision(trained: Any) -> None:
    losses = run_losses(trained, training_batch(), jit=COMPILED)
    check(list(compare_losses(losses, load_arrays("training_v1"))))


@pytest.mark.slow_under_jax
def test_version_2_equals_torchvision() -> None:
    version_2 = build_model(golden_config("v2"), make_state("v2"))
    check(compare(run_stages(version_2, first_image(), jit=COMPILED), load_arrays("inference_v2")))


@pytest.mark.slow_under_jax
def test_compiled_model_detects_what_its_stages_do(model: Any, stages: dict[str, Any]) -> None:
    model.compile(jit_compile=COMPILED)  # TensorFlow's graph; `make parity` lets XLA compile all stages under it, too
    outputs = model.predict_on_batch(first_image())
    np.testing.assert_array_equal(outputs["classes"][0], stages["det.classes"][0])
    np.testing.assert_allclose(outputs["boxes"][0], stages["det.boxes"][0], atol=1e-2)
    np.testing.assert_allclose(outputs["scores"][0], stages["det.scores"][0], atol=1e-4)
    valid = outputs["valid"][0]
    np.testing.assert_allclose(outputs["masks"][0][valid], stages["det.mask_prob"][0][valid], atol=5e-4)


@pytest.mark.slow_under_jax
def test_image_without_detections_in_a_batch(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    golden, batch = load_arrays("inference_v1"), first_image()
    plain = np.full_like(batch["images"], 120)
    # The plain image's best score is 0.52, the recorded image's three best are 0.88, 0.84 and 0.56.
    monkeypatch.setattr(model.box_head, "config", BoxHeadConfig(score_threshold=0.55))
    both = {"images": np.concatenate([plain, batch["images"]]), "image_sizes": np.repeat(batch["image_sizes"], 2, 0)}
    results = run_stages(model, both, jit=COMPILED)
    np.testing.assert_array_equal(results["det.valid"].sum(axis=1), [0, 3])
    assert not results["det.boxes"][0].any()
    assert not results["det.scores"][0].any()
    assert np.isfinite(results["det.mask_prob"]).all()
    np.testing.assert_array_equal(results["det.classes"][1, :3], golden["det.labels"][:3])
    np.testing.assert_allclose(results["det.boxes"][1, :3], golden["det.boxes"][:3], atol=1e-2)
    np.testing.assert_allclose(results["det.mask_prob"][1, :3], golden["det.mask_prob"][:3], atol=5e-4)


@pytest.mark.slow  # a minute; `make parity` compares whole trainings, and losses and gradients are tested here
def test_training_follows_torchvision(state: dict[str, Any]) -> None:
    golden = load_arrays("training_v1")
    trained = build_model(training_config(), state)
    recorder = compile_recorder(trained, jit=COMPILED)
    losses = run_step(trained, training_batch())
    check([*compare_losses(losses, golden), *compare_gradients(trained, recorder, golden, state)])
    check(list(compare_steps(trained, losses, steps=2)))  # all ten: make parity

    set_state(trained, state)
    losses = run_step(trained, training_batch(objects=False))
    check(list(compare_losses(losses, golden, key="empty.loss_values")))


@pytest.mark.slow_under_jax
def test_box_masks_hardly_change_the_loss(trained: Any) -> None:
    full = load_arrays("training_v1")["loss.values"][2]
    batch = with_box_masks(training_batch())
    assert batch["masks"].shape == (1, 4, 112, 112)
    small = run_losses(trained, batch, jit=COMPILED)["mask_loss"]
    assert small == pytest.approx(full, rel=0.02)
    assert small != full
