"""The whole model against torchvision's recorded numbers: every stage, every loss, every gradient."""

from typing import Any

import keras
import numpy as np
import pytest

from benchmarks.parity.goldens import (
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
from benchmarks.parity.inference import compare, run_stages
from benchmarks.parity.training import (
    box_frames,
    compare_gradients,
    compare_losses,
    compare_steps,
    compile_recorder,
    run_losses,
    run_step,
    training_config,
)
from maskrcnn.config import BoxHeadConfig

# JAX compiles each operation by itself when nothing else is asked for, which takes longer than the whole at once.
COMPILED = keras.backend.backend() == "jax"


@pytest.fixture(scope="module")
def state() -> dict[str, Any]:
    return make_state("v1")


@pytest.fixture(scope="module")
def model(state: dict[str, Any]) -> Any:
    return build_model(golden_config("v1"), state)


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


def test_compiled_model_detects_what_its_stages_do(model: Any, stages: dict[str, Any]) -> None:
    model.compile(jit_compile=True)
    outputs = model.predict_on_batch(first_image())
    np.testing.assert_array_equal(outputs["classes"][0], stages["det.classes"][0])
    np.testing.assert_allclose(outputs["boxes"][0], stages["det.boxes"][0], atol=1e-2)
    np.testing.assert_allclose(outputs["scores"][0], stages["det.scores"][0], atol=1e-4)
    valid = outputs["valid"][0]
    np.testing.assert_allclose(outputs["masks"][0][valid], stages["det.mask_prob"][0][valid], atol=5e-4)


def test_image_without_detections_in_a_batch(state: dict[str, Any]) -> None:
    golden, batch = load_arrays("inference_v1"), first_image()
    plain = np.full_like(batch["images"], 120)
    # The plain image's best score is 0.52, the recorded image's three best are 0.88, 0.84 and 0.56.
    model = build_model(golden_config("v1", box_head=BoxHeadConfig(score_threshold=0.55)), state)
    seen = run_stages(
        model,
        {
            "images": np.concatenate([plain, batch["images"]]),
            "image_sizes": np.repeat(batch["image_sizes"], 2, axis=0),
        },
        jit=COMPILED,
    )
    np.testing.assert_array_equal(seen["det.valid"].sum(axis=1), [0, 3])
    assert not seen["det.boxes"][0].any()
    assert not seen["det.scores"][0].any()
    assert np.isfinite(seen["det.mask_prob"]).all()
    np.testing.assert_array_equal(seen["det.classes"][1, :3], golden["det.labels"][:3])
    np.testing.assert_allclose(seen["det.boxes"][1, :3], golden["det.boxes"][:3], atol=1e-2)
    np.testing.assert_allclose(seen["det.mask_prob"][1, :3], golden["det.mask_prob"][:3], atol=5e-4)


def test_version_2_equals_torchvision() -> None:
    version_2 = build_model(golden_config("v2"), make_state("v2"))
    check(compare(run_stages(version_2, first_image(), jit=COMPILED), load_arrays("inference_v2")))


def test_training_follows_torchvision(state: dict[str, Any]) -> None:
    golden = load_arrays("training_v1")
    trained = build_model(training_config(), state)
    recorder = compile_recorder(trained, jit=COMPILED)
    losses = run_step(trained, training_batch())
    check([*compare_losses(losses, golden), *compare_gradients(trained, recorder, golden, state)])

    # All ten: make parity. On a CPU one takes JAX a minute.
    check(list(compare_steps(trained, losses, steps=1 if keras.backend.backend() == "jax" else 2)))

    set_state(trained, state)
    losses = run_step(trained, training_batch(objects=False))
    check(list(compare_losses(losses, golden, key="empty.loss_values")))


def test_masks_in_box_frames_hardly_change_the_loss(state: dict[str, Any]) -> None:
    full = load_arrays("training_v1")["loss.values"][2]
    batch = box_frames(training_batch())
    assert batch["masks"].shape == (1, 4, 112, 112)
    trained = build_model(training_config(), state)
    small = run_losses(trained, batch, jit=COMPILED)["mask_loss"]
    assert small == pytest.approx(full, rel=0.02)
    assert small != full
