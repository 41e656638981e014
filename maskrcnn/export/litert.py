"""LiteRT's file (.tflite): the live model's plain operations, all of them built into the runtime.

LiteRT's shapes are fixed, so that the file holds a signature for each canvas, named ``HxW``; they share the weights.
What the file tells about its model is a ZIP archive behind it, as TensorFlow Lite's metadata keeps files.
https://ai.google.dev/edge/litert/conversion/tensorflow/metadata
"""

import json
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from maskrcnn.config import Config
from maskrcnn.export.metadata import describe
from maskrcnn.export.options import ExportOptions
from maskrcnn.export.with_tensorflow import write_with_tensorflow
from maskrcnn.imaging.canvas import canvas_size
from maskrcnn.inference.exported import LITERT_METADATA_FILE
from maskrcnn.model import MaskRCNN
from maskrcnn.runtime.compiler import tracing_without_xla
from maskrcnn.weights.variables import variable_values


def write(model: MaskRCNN, config: Config, path: Path, options: ExportOptions) -> None:
    """Writes the file, not checked yet."""
    image = config.model.image
    canvases = {options.size} if options.size else {canvas_size(1, 1, image), canvas_size(2, 1, image)}
    write_with_tensorflow(convert, model, config, path, options.batch, sorted(canvases), options.half)


def convert(
    model: MaskRCNN, config: Config, path: Path, batch: int, canvases: Sequence[Sequence[int]], half: bool
) -> None:
    """Writes the file under the TensorFlow backend, for canvases (height, width)."""
    import tensorflow as tf

    variables = (model.trainable_variables, model.non_trainable_variables)
    weights = [[variable.numpy() for variable in group] for group in variables]

    def detect(images: Any, image_sizes: Any) -> dict[str, Any]:
        # As constants: the converter leaves Keras' variables out of the file.
        constants = [[tf.constant(values) for values in group] for group in weights]
        inputs = {"images": images, "image_sizes": image_sizes}
        return model.stateless_call(*constants, inputs, training=False)[0]

    trace, signatures = tf.function(detect, autograph=False), {}
    with tracing_without_xla(plainly=True), tempfile.TemporaryDirectory() as folder:
        for height, width in canvases:
            images = tf.TensorSpec([batch, height, width, 3], tf.uint8, "images")
            image_sizes = tf.TensorSpec([batch, 2], tf.float32, "image_sizes")
            signatures[f"{height}x{width}"] = trace.get_concrete_function(images, image_sizes)
        tf.saved_model.save(tf.Module(), folder, signatures)
        converter = tf.lite.TFLiteConverter.from_saved_model(folder, signature_keys=list(signatures))
        if half:
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
            converter.target_spec.supported_types = [tf.float16]
        path.write_bytes(converter.convert())
    described = describe(config, variable_values(model))
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(LITERT_METADATA_FILE, json.dumps({**described, "precision": "float16" if half else "float32"}))
