"""What many tests share: a small dataset, and a model that costs nothing.

pytest-xdist's main process reads this file too, and runs no tests: Keras is imported where it is needed.
"""

import os
from pathlib import Path
from typing import TYPE_CHECKING

os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# Most of the time is tracing and compiling, which does a quarter less where the result need not be fast.
os.environ["XLA_FLAGS"] = (
    "--xla_backend_optimization_level=1 --xla_llvm_disable_expensive_passes=true " + os.environ.get("XLA_FLAGS", "")
).strip()
if os.environ.get("KERAS_BACKEND") == "jax":
    # Many tests, their processes and the next run compile the same programs.
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(Path(__file__).parents[1] / ".pytest_cache" / "jax"))
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.3")

import maskrcnn  # noqa: F401  first, since it turns oneDNN on before TensorFlow is imported

# isort: split
import pytest

from maskrcnn.config import Config

if TYPE_CHECKING:
    from tests.stand_in import StandIn

UNDER_JAX = os.environ.get("KERAS_BACKEND") == "jax"

# Rooms that do not compute with a backend: their tests run once, with TensorFlow's. Elsewhere: the marker `no_backend`.
TESTS = Path(__file__).parent
NO_BACKEND = (
    "attacks/test_checkpoint_files",
    "attacks/test_config",
    "attacks/test_flags",
    "attacks/test_python_api",
    "attacks/test_run_files",
    "benchmarks/test_recipes",
    "benchmarks/test_result",
    "cli/test_flags",
    "data/coco",
    "data/formats",
    "data/records",
    "data/test_",
    "evaluation/test_coco_metrics",
    "imaging",
    "logs",
    "reports",
    "runtime/test_download",
    "runtime/test_files",
    "test_limits",
    "training/test_presets",
    "weights/formats",
    "weights/test_published",
)

# Rooms with tests that take or wait long, which come first: the workers then end together.
LONGEST = ("attacks", "cli", "export", "inference", "model", "ops", "training", "weights")

MICRO = {
    "image.min_side": 64,
    "image.max_side": 64,
    "backbone.width": 8,
    "fpn.channels": 8,
    "rpn.train_candidates": 20,
    "rpn.train_proposals": 16,
    "rpn.test_candidates": 20,
    "rpn.test_proposals": 16,
    "box_head.channels": 16,
    "box_head.samples": 8,
    "box_head.test_candidates": 20,
    "box_head.detections": 5,
    "mask_head.channels": 8,
    "mask_head.convolutions": 1,
    "data.max_instances": 8,
    "train.eval_batch_size": 2,
}


def pytest_ignore_collect(collection_path: Path) -> bool | None:
    """Under JAX, does not even read the tests of rooms that do not compute with a backend."""
    return True if UNDER_JAX and collection_path.relative_to(TESTS).as_posix().startswith(NO_BACKEND) else None


@pytest.hookimpl(tryfirst=True)  # before pytest deselects what is slow
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Puts long tests first; makes those slow that are so under JAX; skips what a restricted processor cannot compute.

    Tests that no backend computes run under TensorFlow only.

    TensorFlow asks the processor itself whether oneDNN can compute in bfloat16, and not the variable that restricts it.
    """
    if UNDER_JAX:
        repeated = [item for item in items if item.get_closest_marker("no_backend")]
        items[:] = [item for item in items if not item.get_closest_marker("no_backend")]
        config.hook.pytest_deselected(items=repeated)
    items.sort(key=lambda item: item.path.relative_to(TESTS).parts[0] not in LONGEST)
    restricted = os.environ.get("ONEDNN_MAX_CPU_ISA", "").startswith("AVX2")
    for item in items:
        if UNDER_JAX:
            if item.get_closest_marker("slow_under_jax"):
                item.add_marker(pytest.mark.slow)
        elif restricted and item.get_closest_marker("bfloat16"):
            item.add_marker(pytest.mark.skip("oneDNN restricted to AVX2 has no bfloat16"))


@pytest.fixture(scope="session", autouse=True)
def _graphs_are_not_optimized():
    """Except by `make test-isa`, nightly, which runs them as TensorFlow's optimizer leaves them."""
    if not UNDER_JAX and "ONEDNN_MAX_CPU_ISA" not in os.environ:
        import tensorflow as tf

        tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})


@pytest.fixture(autouse=True)
def _determinism_ends_with_the_test():
    """`backend.set_seed` turns it on for the whole process, and Keras then refuses XLA."""
    yield
    if not UNDER_JAX:
        from tensorflow.python.framework import config

        config.disable_op_determinism()


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> "type[StandIn]":
    """Makes the commands build and load `StandIn`, and reports without charts; `train` takes it as ``build_model``."""
    from tests.stand_in import use_stand_in

    return use_stand_in(monkeypatch)


@pytest.fixture
def micro() -> Config:
    """A whole Mask R-CNN on 64 px images, too small to learn anything."""
    return Config.tiny().override({**MICRO, "train.seed": 1})


@pytest.fixture(scope="module")
def few_check_images():
    """Exports are checked on one drawn image, where generated weights find objects as on all of them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("maskrcnn.export.check.DRAWN", 1)
        yield


@pytest.fixture(scope="session")
def shapes_dir(tmp_path_factory: pytest.TempPathFactory):
    """A COCO folder of 6 + 3 images of 64 px, converted already; not to be changed."""
    from maskrcnn.data.folder import convert_folder
    from maskrcnn.data.shapes import write_shapes

    folder = tmp_path_factory.mktemp("shapes")
    write_shapes(folder, train_images=6, val_images=3, image_size=64, seed=1, progress=False)
    convert_folder(folder, progress=False)
    return folder
