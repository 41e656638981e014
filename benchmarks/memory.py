"""The estimate of a training step's memory beside what XLA plans for it, float32, compiled on this machine and not run.

    python benchmarks/memory.py

Writes benchmarks/results/memory.json. Half precision is left out: XLA computes it in float32 on a CPU.
"""

import dataclasses
import json
import math
import os
from pathlib import Path
from typing import Any

os.environ["KERAS_BACKEND"] = "jax"

import jax
import keras
import numpy as np

from maskrcnn.config import Category, Config
from maskrcnn.data.loader.synthetic import synthetic_batch
from maskrcnn.model import MaskRCNN
from maskrcnn.runtime.hardware import describe_machine
from maskrcnn.training.memory import estimate_memory

RESULTS = Path(__file__).parent / "results" / "memory.json"
CASES: list[tuple[str, int, dict[str, Any]]] = [
    ("ResNet-50, 832x1344", 1, {}),
    ("ResNet-50, 832x1344", 2, {}),
    ("ResNet-50, 832x1344, nothing frozen", 1, {"backbone.freeze_at": 0}),
    ("ResNet-50, 416x672, Adam", 2, {"image.min_side": 416, "image.max_side": 672, "train.optimizer": "adam"}),
    ("ResNet-101, 832x1344", 1, {"backbone.depth": 101}),
]


def measure(batch_size: int, settings: dict[str, Any]) -> dict[str, float]:
    config = dataclasses.replace(Config(), categories=tuple(Category(i, i, str(i)) for i in range(1, 81)))
    config = config.override(settings)
    model = MaskRCNN(config)
    adam = config.train.optimizer == "adam"
    model.compile(keras.optimizers.Adam() if adam else keras.optimizers.SGD(0.01, momentum=0.9))
    model.optimizer.build(model.trainable_variables)
    batch = synthetic_batch(config, batch_size, np.random.default_rng(0))
    parts = ("trainable_variables", "non_trainable_variables", "optimizer_variables", "metrics_variables")
    state = model._get_jax_state(**dict.fromkeys(parts, True))
    plan = jax.jit(model.train_step, donate_argnums=0).lower(state, (batch,)).compile().memory_analysis()
    estimate = estimate_memory(config, model.variables, model.trainable_variables).total(batch_size)
    trained = sum(math.prod(variable.shape) for variable in model.trainable_variables)
    planned = plan.temp_size_in_bytes + plan.argument_size_in_bytes
    found = {"estimate GB": estimate / 1e9, "XLA's plan GB": planned / 1e9, "ratio": estimate / planned}
    return {**{name: round(value, 3) for name, value in found.items()}, "gradient bytes": 4 * trained}


def main() -> None:
    rows = []
    for name, batch_size, settings in CASES:
        rows.append({"case": name, "batch": batch_size, **measure(batch_size, settings)})
        print(rows[-1], flush=True)
        keras.backend.clear_session()
        jax.clear_caches()
    record = {"command": "python benchmarks/memory.py", "rows": rows, "machine": describe_machine()}
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
