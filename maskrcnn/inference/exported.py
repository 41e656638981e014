"""Models that `maskrcnn export` wrote, run without Keras: by ONNX Runtime, OpenVINO, LiteRT or TensorFlow."""

import logging
import re
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from maskrcnn.config import Config
from maskrcnn.errors import UserError, first_line
from maskrcnn.inference.detections import Outputs
from maskrcnn.inference.predictor import Predictor
from maskrcnn.input_files import MAX_DOCUMENT_BYTES, open_regular, parse_json, read_bytes
from maskrcnn.runtime.backend import import_tensorflow
from maskrcnn.runtime.extras import import_extra
from maskrcnn.runtime.hardware import available_cores, sums_int8_exactly

SUFFIXES = (".onnx", ".xml", ".tflite")  # ONNX, OpenVINO, LiteRT
OUTPUTS = {"boxes": 3, "classes": 2, "scores": 2, "masks": 4, "valid": 2}  # dimensions, of which two are [B, D]
MAX_SIDE = 4096  # of the shape that a file may fix: `maskrcnn export` takes no larger --batch and --size
MAX_CLASSES = 1 << 31
MODEL_FILE = "saved_model.pb"
METADATA_FILE = "assets.extra/maskrcnn.json"  # of a SavedModel
LITERT_METADATA_FILE = "maskrcnn.json"  # in the archive at the end of a .tflite file
METADATA = ("version", "config", "class_names", "resize", "weights_sha256", "precision")
INT8, INT8_REDUCED = "int8", "int8, weights of 7 bits"  # precisions
MAX_GRAPH_BYTES = 1 << 31  # of a SavedModel's graph, without its weights; protobuf's own limit
# TensorFlow's operations that read or write files, open connections or call Python, but for those that save variables
OUTSIDE = re.compile("File|Reader|Py|Dataset|Iterator|Print|Debug|Summary|Rpc|Collective|Save|Restore|Checkpoint")
SAVING = {"SaveV2", "RestoreV2", "MergeV2Checkpoints", "ShardedFilename"}

logger = logging.getLogger(__name__)
Array = NDArray[Any]


@dataclass(frozen=True)
class ExportedModel:
    """A file opened by its runtime; stands in for the Keras model in a `Predictor`."""

    run: Callable[[Array, Array], Outputs]  # images uint8 [B, H, W, 3], image_sizes float32 [B, 2] -> outputs
    shape: tuple[int | None, ...]  # [B, H, W, 3] that the file takes; None is any number
    metadata: dict[str, str]
    path: Path
    runtime: str  # the package that runs it

    def predict_on_batch(self, x: dict[str, Any]) -> Outputs:
        """The outputs of `MaskRCNN` for any number of images, in as many runs as the file's batch size asks for.

        Raises:
            UserError: images of a size that the file was not exported for, or a file that does not compute detections.
        """
        images, image_sizes = np.asarray(x["images"], np.uint8), np.asarray(x["image_sizes"], np.float32)
        height, width = images.shape[1:3]
        if any(fixed not in (None, side) for fixed, side in zip(self.shape[1:3], (height, width), strict=True)):
            raise _wrong_canvas(self.path, f"a {self.shape[1]}x{self.shape[2]} px canvas", (height, width))
        try:
            parts = [self.run(*part) for part in _batches(images, image_sizes, self.shape[0])]
            outputs = {name: np.concatenate([part[name] for part in parts])[: len(images)] for name in OUTPUTS}
            _check_outputs(outputs, len(images))
        except UserError:
            raise
        except Exception as error:  # each runtime has its own
            raise UserError(f"{self.path}: cannot be run ({first_line(error)}); export the model again") from error
        return outputs


def load_exported(path: str | Path, *, threads: int | None = None) -> Predictor:
    """The predictor of an exported ``.onnx`` or ``.tflite`` file, OpenVINO ``.xml`` or SavedModel folder.

    Args:
        path: the file.
        threads: of the runtime; None is one for each core.

    Raises:
        UserError: no such file, one that `maskrcnn export` did not write, or a runtime that is not installed.
    """
    path = Path(path)
    if is_saved_model(path):
        opener = _open_saved_model
    elif path.suffix not in SUFFIXES:
        raise UserError(f"{path}: unknown format; expected a file ending in {', '.join(SUFFIXES)}")
    elif not path.is_file():
        raise UserError(f"{path}: no such file; `maskrcnn export` writes it")
    else:
        opener = {".onnx": _open_onnx, ".xml": _open_openvino, ".tflite": _open_litert}[path.suffix]
    try:
        model = opener(path, threads)
        _check(model)
    except Exception as error:  # each runtime has its own
        if isinstance(error.__cause__, ImportError):  # the runtime is not installed
            raise
        reason = first_line(error)
        raise UserError(f"{path}: not written by `maskrcnn export`, or damaged ({reason}); export it again") from error
    try:
        return Predictor(model, Config.from_dict(parse_json(model.metadata["config"])))
    except (ValueError, UserError) as error:
        raise UserError(f"{path}: holds no valid config ({error}); export it again") from error


def is_saved_model(path: Path) -> bool:
    """Whether this is a folder in TensorFlow's format."""
    return (path / MODEL_FILE).is_file()


def exported_files(path: str | Path) -> tuple[Path, ...]:
    """The files of an exported model: of OpenVINO the weights too, of a SavedModel all in its folder."""
    path = Path(path)
    files = path.rglob("*") if path.is_dir() else (path, *([path.with_suffix(".bin")] if path.suffix == ".xml" else []))
    return tuple(sorted(file for file in files if file.is_file()))


def _batches(images: Array, image_sizes: Array, size: int | None) -> Iterator[tuple[Array, Array]]:
    """Batches of the file's size; the last one is filled up with empty images."""
    size = size or len(images)
    for start in range(0, len(images), size):
        batch, sizes = images[start : start + size], image_sizes[start : start + size]
        missing = size - len(batch)
        yield np.pad(batch, [(0, missing), (0, 0), (0, 0), (0, 0)]), np.pad(sizes, [(0, missing), (0, 0)])


def _check_outputs(outputs: Outputs, count: int) -> None:
    """Checks the outputs for ``count`` images, of which a file from elsewhere may make anything.

    Raises:
        ValueError: not what `MaskRCNN` returns.
    """
    valid = outputs["valid"]
    for name, dimensions in OUTPUTS.items():
        value = outputs[name]
        is_right = value.ndim == dimensions and value.shape[:2] == (count, valid.shape[1]) and 0 not in value.shape[2:]
        if not (is_right and value.dtype.kind in "biuf" and np.isfinite(value[valid.astype(bool)]).all()):
            raise ValueError(f"its {name} are no detections")
    if np.any(np.abs(outputs["classes"][valid.astype(bool)]) >= MAX_CLASSES):
        raise ValueError("its classes are no detections")


def _open_onnx(path: Path, threads: int | None) -> ExportedModel:
    runtime = import_extra("onnxruntime")
    options = runtime.SessionOptions()
    options.log_severity_level = 3  # errors only
    options.intra_op_num_threads = threads or 0
    session = runtime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    found = session.get_modelmeta().custom_metadata_map
    shape = tuple(side if isinstance(side, int) else None for side in session.get_inputs()[0].shape)

    def run(images: Array, image_sizes: Array) -> Outputs:
        inputs = {"images": images, "image_sizes": image_sizes}
        return dict(zip(OUTPUTS, session.run(list(OUTPUTS), inputs), strict=True))

    return ExportedModel(run, shape, found, path, "onnxruntime")


def _open_openvino(path: Path, threads: int | None) -> ExportedModel:
    openvino = import_extra("openvino")
    read_bytes(path)  # of no size or kind at which OpenVINO would read on and on
    model = openvino.Core().read_model(path)
    found = {name: str(model.get_rt_info(["maskrcnn", name]).value) for name in METADATA}
    settings: dict[str, Any] = {"PERFORMANCE_HINT": "LATENCY"}
    settings["INFERENCE_PRECISION_HINT"] = "f32"  # otherwise it computes in bfloat16 where the processor has it
    if threads:
        settings["INFERENCE_NUM_THREADS"] = threads
    compiled = openvino.compile_model(model, "CPU", settings)
    shape = tuple(side.get_length() if side.is_static else None for side in model.input(0).partial_shape)

    def run(images: Array, image_sizes: Array) -> Outputs:
        results = compiled([images, image_sizes])
        return {name: np.array(results[index]) for index, name in enumerate(OUTPUTS)}

    return ExportedModel(run, shape, found, path, "openvino")


def _open_litert(path: Path, threads: int | None) -> ExportedModel:
    litert = import_extra("ai_edge_litert.interpreter")
    with zipfile.ZipFile(path) as archive, archive.open(LITERT_METADATA_FILE) as file:
        metadata = parse_json(file.read(MAX_DOCUMENT_BYTES))
    interpreter = litert.Interpreter(str(path), num_threads=threads or available_cores())
    signatures = [interpreter.get_signature_runner(name) for name in interpreter.get_signature_list()]
    shapes = [tuple(map(int, runner.get_input_details()["images"]["shape"])) for runner in signatures]
    runners = {shape[1:3]: runner for shape, runner in zip(shapes, signatures, strict=True)}
    canvas = shapes[0][1:3] if len(shapes) == 1 else (None, None)

    def run(images: Array, image_sizes: Array) -> Outputs:
        size = images.shape[1:3]
        if size not in runners:
            raise _wrong_canvas(path, " and ".join(f"{height}x{width}" for height, width in runners) + " px", size)
        outputs = runners[size](images=images, image_sizes=image_sizes)
        return {name: np.array(outputs[name]) for name in OUTPUTS}

    return ExportedModel(run, (shapes[0][0], *canvas, 3), metadata, path, "ai_edge_litert")


def _open_saved_model(path: Path, threads: int | None) -> ExportedModel:
    tf = import_tensorflow()
    if threads:
        tf.config.threading.set_intra_op_parallelism_threads(threads)
    metadata = parse_json(read_bytes(path / METADATA_FILE))
    for file in path.rglob("*"):
        if not file.is_dir():
            open_regular(file).close()  # TensorFlow would wait for a pipe
    _check_operations(read_bytes(path / MODEL_FILE, MAX_GRAPH_BYTES))
    loaded = tf.saved_model.load(str(path))
    shape = tuple(loaded.signatures["serving_default"].structured_input_signature[1]["images"].shape)

    def run(images: Array, image_sizes: Array) -> Outputs:
        # The signature does not hold the variables, which are gone with `loaded`.
        outputs = loaded.signatures["serving_default"](images=tf.constant(images), image_sizes=tf.constant(image_sizes))
        return {name: outputs[name].numpy() for name in OUTPUTS}

    return ExportedModel(run, shape, metadata, path, "tensorflow")


def _check_operations(graph: bytes) -> None:
    """Refuses a SavedModel with operations that reach outside: its functions run when it is loaded."""
    protocol = import_extra("tensorflow.core.protobuf.saved_model_pb2")
    for meta_graph in protocol.SavedModel.FromString(graph).meta_graphs:
        graph_def = meta_graph.graph_def
        nodes = [*graph_def.node, *(node for function in graph_def.library.function for node in function.node_def)]
        if unsafe := sorted({node.op for node in nodes if OUTSIDE.search(node.op)} - SAVING):
            raise ValueError(f"it has the operation {unsafe[0]}")


def _check(model: ExportedModel) -> None:
    path, metadata = model.path, model.metadata
    missing = [name for name in METADATA if not isinstance(metadata, dict) or not isinstance(metadata.get(name), str)]
    if missing:
        raise ValueError(f"it has no {missing[0]}")
    if len(model.shape) != 4 or not all(side is None or 1 <= side <= MAX_SIDE for side in model.shape):
        raise ValueError(f"it takes no images but {list(model.shape)}")
    if metadata["precision"] == INT8 and not sums_int8_exactly():
        logger.warning(
            "%s: made for processors that add 8-bit products exactly, which this one does not; export it here",
            path,
        )


def _wrong_canvas(path: Path, taken: str, needed: tuple[int, ...]) -> UserError:
    height, width = needed
    return UserError(
        f"{path}: takes images on {taken}, and this one needs {height}x{width}; export the model again, for that --size"
    )
