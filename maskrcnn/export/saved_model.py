"""TensorFlow's SavedModel, with a signature for images on their canvas and one for an encoded image file.

It is traced from the live model without XLA, which TensorFlow Serving's CPU builds lack.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from maskrcnn.config import Config, ImageConfig
from maskrcnn.data.loader.transforms import decode_image, resize_to_canvas
from maskrcnn.export.metadata import describe
from maskrcnn.export.options import ExportOptions
from maskrcnn.export.with_tensorflow import write_with_tensorflow
from maskrcnn.imaging.canvas import canvas_size
from maskrcnn.inference.exported import METADATA_FILE
from maskrcnn.model import MaskRCNN
from maskrcnn.runtime.compiler import tracing_without_xla
from maskrcnn.weights.variables import variable_values

InputSize = Sequence[int | None]  # B, H, W; None is any number


def write(model: MaskRCNN, config: Config, path: Path, options: ExportOptions) -> None:
    """Writes a folder that needs TensorFlow only, not checked yet."""
    write_with_tensorflow(save_traced, model, config, path, (options.batch, *(options.size or (None, None))))


def save_traced(model: MaskRCNN, config: Config, path: Path, size: InputSize) -> None:
    """Writes the folder, which must not exist, under the TensorFlow backend."""
    import tensorflow as tf

    batch, height, width = size
    images = tf.TensorSpec([batch, height, width, 3], tf.uint8, "images")
    image_sizes = tf.TensorSpec([batch, 2], tf.float32, "image_sizes")
    module: Any = tf.Module()
    module.variables_of_model = model.variables  # tracked, so that they are saved

    @tf.function(input_signature=[images, image_sizes], autograph=False)
    def detect(images: Any, image_sizes: Any) -> dict[str, Any]:
        return model({"images": images, "image_sizes": image_sizes}, training=False)

    @tf.function(input_signature=[tf.TensorSpec([], tf.string, "encoded")], autograph=False)
    def detect_encoded(encoded: Any) -> dict[str, Any]:
        return _detect_encoded(model, encoded, config.model.image)

    with tracing_without_xla():
        signatures = {"serving_default": detect.get_concrete_function()}
        signatures["encoded"] = detect_encoded.get_concrete_function()
        tf.saved_model.save(module, str(path), signatures)
    (path / METADATA_FILE).parent.mkdir()
    (path / METADATA_FILE).write_text(json.dumps(describe(config, variable_values(model)), indent=2), encoding="utf-8")


def _detect_encoded(model: MaskRCNN, encoded: Any, config: ImageConfig) -> dict[str, Any]:
    """The detections in one file, without a batch dimension: boxes [D, 4] in px of the image, whose size is added."""
    import tensorflow as tf

    image = decode_image(encoded)
    original = tf.shape(image)[:2]
    short, long = tf.reduce_min(original), tf.reduce_max(original)
    limits = config.min_side * long <= config.max_side * short
    numerator = tf.where(limits, config.min_side, config.max_side)
    size = tf.maximum(original * numerator // tf.where(limits, short, long), 1)  # as `imaging.canvas.resized_size`
    is_wide = original[1] >= original[0]
    canvas = tf.where(is_wide, canvas_size(1, 1, config), canvas_size(2, 1, config))
    example = resize_to_canvas({"image": image}, size, canvas)
    outputs = model({"images": example["image"][None], "image_sizes": example["image_sizes"][None]}, training=False)
    outputs = {name: value[0] for name, value in outputs.items()}
    scale = tf.cast(original, tf.float32) / example["image_sizes"]
    outputs["boxes"] *= tf.gather(scale, [1, 0, 1, 0])
    return {**outputs, "image_size": original}
