"""Runs the comparisons on one backend and writes them as JSON: ``KERAS_BACKEND=jax python -m tests.parity.measure``."""

import argparse
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import keras

from tests.parity.goldens import (
    Row,
    build_model,
    first_image,
    golden_config,
    load_arrays,
    make_state,
    set_state,
    training_batch,
    two_images,
)
from tests.parity.inference import compare, run_stages
from tests.parity.precision import BFLOAT16, BFLOAT16_MIXED, FLOAT16, compare_precisions
from tests.parity.training import (
    compare_gradients,
    compare_losses,
    compare_rpn_box_gradients,
    compare_steps,
    compile_recorder,
    run_losses,
    run_step,
    training_config,
    with_box_masks,
)

# Fraction of the float32 detections that may be lost (IoU below 0.9, or another class). bfloat16 has no limit: the
# recorded weights have centered kernels, which it cannot represent well enough.
LOST = {FLOAT16: 0.05, BFLOAT16_MIXED: 0.05, BFLOAT16: float("inf")}
MASK_LOSS_LIMIT = 0.02  # relative change of the mask loss by masks of 112 x 112 in their boxes

Section = tuple[str, list[Row]]


def inference_sections(*, jit: bool) -> Iterator[Section]:
    state = make_state("v1")
    model = build_model(golden_config("v1"), state)
    yield "Inference, v1", compare(run_stages(model, first_image(), jit=jit), load_arrays("inference_v1"))
    results = run_stages(model, two_images(), jit=jit)
    yield "Inference, v1: a smaller image in a batch", compare(results, load_arrays("inference_batch"), image=1)
    model = build_model(golden_config("v2"), make_state("v2"))
    yield "Inference, v2", compare(run_stages(model, first_image(), jit=jit), load_arrays("inference_v2"))


def training_sections(*, jit: bool) -> Iterator[Section]:
    state, golden = make_state("v1"), load_arrays("training_v1")
    model = build_model(training_config(), state)
    recorder = compile_recorder(model, jit=jit)
    losses = run_step(model, training_batch())
    rows = [*compare_losses(losses, golden), *compare_gradients(model, recorder, golden, state)]
    rows_of_steps = list(compare_steps(model, losses))
    set_state(model, state)
    empty = run_step(model, training_batch(objects=False))
    set_state(model, state)
    rows.append(compare_rpn_box_gradients(training_batch(), golden, state, jit=jit))
    yield "A training step, v1", rows
    yield "Ten steps of SGD, v1", rows_of_steps
    yield "A training step without objects, v1", list(compare_losses(empty, golden, key="empty.loss_values"))
    small = run_losses(model, with_box_masks(training_batch()), jit=jit)
    change = abs(small["mask_loss"] / losses["mask_loss"] - 1)
    yield (
        "Masks of 112 x 112 in their boxes instead of whole images",
        [Row("change of mask_loss", change, MASK_LOSS_LIMIT)],
    )


def precision_sections() -> Iterator[Section]:
    rows = []
    for mode, found in compare_precisions(make_state("v1"), first_image(), tuple(LOST)).items():
        rows.append(Row(f"{mode.title}: fraction of {found.total} detections lost", 1 - found.fraction, LOST[mode]))
        rows.append(Row(f"{mode.title}: largest score difference", found.largest_score_difference, float("inf")))
    yield "Half precision against float32, v1", rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--parts", nargs="+", choices=("inference", "training", "precision"), required=True)
    parser.add_argument("--jit", action="store_true")
    options = parser.parse_args()
    keras.utils.set_random_seed(0)
    started, sections = time.monotonic(), []
    for part in options.parts:
        if part == "inference":
            found = inference_sections(jit=options.jit)
        else:
            found = training_sections(jit=options.jit) if part == "training" else precision_sections()
        for title, rows in found:
            values = [{"stage": row.stage, "error": float(row.error), "tolerance": row.tolerance} for row in rows]
            sections.append({"title": title, "rows": values})
            failed = sum(not row.passed for row in rows)
            seconds = time.monotonic() - started
            print(f"  {title}: {len(rows) - failed} of {len(rows)} within tolerance ({seconds:.0f} s)", file=sys.stderr)
    options.out.write_text(json.dumps(sections), encoding="utf-8")


if __name__ == "__main__":
    main()
