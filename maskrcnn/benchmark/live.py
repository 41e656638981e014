"""The live model that `maskrcnn benchmark inference` measures."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from maskrcnn.benchmark.batches import with_categories
from maskrcnn.benchmark.record import BenchmarkOptions
from maskrcnn.config import Config
from maskrcnn.model import MaskRCNN
from maskrcnn.runtime.compiler import compile_inference
from maskrcnn.weights.model_folder import load_model, prepare_backend


def live_model(config: Config, options: BenchmarkOptions) -> tuple[Callable[[dict[str, Any]], dict[str, Any]], Config]:
    """The compiled model of ``options.model_dir``, or one with random weights and the threshold off, and its config."""
    prepare_backend(config)
    if options.model_dir and (Path(options.model_dir) / "model.weights.h5").is_file():
        model, config = load_model(options.model_dir, config)
    else:
        config = with_categories(config, None).override({"box_head.score_threshold": -1.0})
        model = MaskRCNN(config)
    return compile_inference(model, xla=config.train.xla), config
