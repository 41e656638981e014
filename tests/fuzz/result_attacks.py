"""Attacks through what runs, exports and other programs wrote: evaluations, logs, exported files, videos, lists."""

import contextlib
import csv
import io
import json
import os
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from maskrcnn.config import Category, Config
from maskrcnn.evaluation.comparison import compare, open_runs
from maskrcnn.inference.exported import METADATA, load_exported
from maskrcnn.inference.inputs import find_inputs
from maskrcnn.inference.outputs.writers import Saving
from maskrcnn.inference.predictor import Predictor
from maskrcnn.inference.results import infer_inputs
from maskrcnn.logs.history import read_history
from maskrcnn.logs.trackers import CsvTracker
from maskrcnn.runtime.files import replacing
from tests.fuzz.attacks import BROKEN_FILES, Attack, Silent, mutated
from tests.fuzz.data_attacks import SMALL, coco_document, pixels
from tests.special_files import SPECIAL, make_special

RESULT: dict[str, Any] = {"image_id": 1, "category_id": 1, "bbox": [2, 5, 8, 9], "score": 0.9}


def write_runs(root: Path, metrics: str | None = None, predictions: str | None = None) -> None:
    """Two evaluations of one ground truth; what is given replaces the files of the second."""
    from pycocotools import mask

    truth = root / "truth.json"
    truth.write_text(json.dumps(coco_document()))
    square = np.zeros((24, 32), np.uint8, order="F")
    square[5:14, 2:10] = 1
    counts: Any = mask.encode(square)["counts"]
    results = [{**RESULT, "segmentation": {"size": [24, 32], "counts": counts.decode()}}]
    data = {"annotation_file": str(truth), "split": "val", "data_dir": str(root), "image_ids": [1, 2]}
    for name in ("a", "b"):
        (root / name).mkdir()
        texts = {"metrics_val.json": json.dumps({"data": data}), "predictions_val.json": json.dumps(results)}
        if name == "b":
            given = {"metrics_val.json": metrics, "predictions_val.json": predictions}
            texts |= {file: text for file, text in given.items() if text is not None}
        for file, text in texts.items():
            (root / name / file).write_text(text)


def compare_runs(root: Path) -> None:
    compare(open_runs([root / "a", root / "b"]), bootstrap=0)


def comparisons() -> Iterator[Attack]:
    valid = {"data": {"annotation_file": "truth.json", "split": "val", "data_dir": ".", "image_ids": [1, 2]}}
    for name, text in mutated(valid):
        yield Attack("compare: metrics", name, lambda root, t=text: (write_runs(root, metrics=t), compare_runs(root)))
    results = [{**RESULT, "segmentation": {"size": [24, 32], "counts": "0"}}]
    for name, text in mutated(results):
        yield Attack(
            "compare: predictions", name, lambda root, t=text: (write_runs(root, predictions=t), compare_runs(root))
        )


def logs() -> Iterator[Attack]:
    def read(content: bytes) -> Any:
        def run(root: Path) -> None:
            (root / "log.json").write_bytes(b"DLLL " + content + b"\n")
            for entry in read_history(root / "log.json"):
                if not all(isinstance(value, int | float) for value in entry.values()):
                    raise Silent(f"{entry}")

        return run

    for step in ([1, 2], [1]):
        for name, text in mutated({"step": step, "data": {"loss": 0.5, "bbox_AP": 0.1}}):
            yield Attack("logs: fields", name, read(text.encode(errors="surrogatepass")))
    for name, content in BROKEN_FILES.items():
        yield Attack("logs: lines", name, read(content))

        def table(root: Path, content: bytes = content) -> None:
            (root / "log.csv").write_bytes(content)
            CsvTracker(root / "log.csv").write(1, {"loss": 0.5})

        yield Attack("logs: tables", name, table)


@cache
def valid_outputs() -> dict[str, np.ndarray]:
    boxes = np.array([[[1, 1, 20, 20], [5, 5, 30, 20]]], np.float32)
    ones = np.ones((1, 2), np.float32)
    masks = np.ones((1, 2, 28, 28), np.float32)
    return {"boxes": boxes, "classes": ones.astype(np.int32), "scores": ones, "masks": masks, "valid": ones > 0}


def exported(outputs: dict[str, np.ndarray], metadata: dict[str, str], shape: tuple[Any, ...]) -> bytes:
    """An ONNX file that returns constants."""
    helper, types = onnx.helper, onnx.TensorProto
    values = {name: onnx.numpy_helper.from_array(value) for name, value in outputs.items()}
    nodes = [helper.make_node("Constant", [], [name], value=value) for name, value in values.items()]
    inputs = [
        helper.make_tensor_value_info("images", types.UINT8, shape),
        helper.make_tensor_value_info("image_sizes", types.FLOAT, [None, 2]),
    ]
    listed = [helper.make_tensor_value_info(name, value.data_type, list(value.dims)) for name, value in values.items()]
    graph = helper.make_graph(nodes, "constant", inputs, listed)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    helper.set_model_props(model, metadata)
    return model.SerializeToString()


@cache
def metadata() -> dict[str, str]:
    config = Config.tiny().override({**SMALL, "categories": [{"index": 1, "id": 1, "name": "cat"}]})
    return {**dict.fromkeys(METADATA, ""), "config": config.to_json()}


def exported_files() -> Iterator[Attack]:
    def predict(name: str, content: bytes) -> Attack:
        def run(root: Path) -> None:
            (root / "m.onnx").write_bytes(content)
            found = load_exported(root / "m.onnx").predict(pixels())
            json.dumps(found.to_coco(1), allow_nan=False)

        return Attack("exported files", name, run)

    any_images = (None, None, None, 3)
    for name, value in valid_outputs().items():
        real = value.astype(np.float32)
        hostile = {
            "missing": None,
            "one rank less": value[0],
            "of two images": np.concatenate([value, value]),
            "fewer": value[:, :1],
            "none": value[:, :0],
            "one number": np.array(1, value.dtype),
            "NaN": np.full_like(real, np.nan),
            "infinite": np.full_like(real, np.inf),
            "negative": -real,
            "1e30": np.full_like(real, 1e30),
            "2**62": np.full(value.shape, 2**62),
        }
        for what, other in hostile.items():
            outputs = {key: array for key, array in {**valid_outputs(), name: other}.items() if array is not None}
            yield predict(f"{name} {what}", exported(outputs, metadata(), any_images))
    for shape in ([], [3], [None, 3], [0, None, None, 3], [2**40, None, None, 3], [None, 2**40, None, 3], [5000] * 4):
        yield predict(f"takes {shape}", exported(valid_outputs(), metadata(), tuple(shape)))
    for key in METADATA:
        without_it = {name: text for name, text in metadata().items() if name != key}
        yield predict(f"no {key}", exported(valid_outputs(), without_it, any_images))
    for name, content in BROKEN_FILES.items():
        yield predict(name, content)


class Finds:
    """A model that finds an object in each image."""

    def predict_on_batch(self, x: Any) -> Any:
        return {name: np.repeat(value, len(x["images"]), axis=0) for name, value in valid_outputs().items()}


def predict_files(root: Path, *names: Any) -> list[dict[str, str]]:
    """Predicts files into a table, whose rows are returned."""
    config = Config.tiny().override(SMALL)
    predictor = Predictor(Finds(), Config(config.model, config.data, config.train, (Category(1, 1, "=1+1"),)))
    infer_inputs(predictor, find_inputs(names), Saving(root / "out", ("csv",)))
    return list(csv.DictReader((root / "out" / "detections.csv").read_text().splitlines()))


PLAYLISTS = {
    "a list of files": b"ffconcat version 1.0\nfile good.avi\n",
    "a stream": b"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\ngood.avi\n#EXT-X-ENDLIST\n",
    "a session": b"v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 5004 RTP/AVP 96\n",
}


def videos() -> Iterator[Attack]:
    def write_video(path: Path, side: int = 32) -> None:
        import av

        with av.open(str(path), "w") as container:
            stream: Any = container.add_stream("mjpeg", rate=25)
            stream.width, stream.height, stream.pix_fmt = side, side, "yuvj420p"
            frame = av.VideoFrame.from_ndarray(np.zeros((side, side, 3), np.uint8), format="rgb24")
            container.mux(stream.encode(frame))
            container.mux(stream.encode(None))

    def playlist(content: bytes) -> Any:
        def run(root: Path) -> None:
            write_video(root / "good.avi")
            (root / "v.avi").write_bytes(content)
            if predict_files(root, root / "v.avi"):
                raise Silent("another file was read")

        return run

    for name, content in {**BROKEN_FILES, **PLAYLISTS}.items():
        yield Attack("videos", name, playlist(content))
    for kind in SPECIAL:
        yield Attack(
            "videos", kind, lambda root, kind=kind: (make_special(root / "v.avi", kind), predict_files(root, "v.avi"))
        )
    for side in (1, 2, 3):
        yield Attack(
            "videos",
            f"of {side} px",
            lambda root, side=side: (write_video(root / "v.avi", side), predict_files(root, root / "v.avi")),
        )


def lists() -> Iterator[Attack]:
    def listed(content: Any) -> Any:
        def run(root: Path) -> None:
            with contextlib.ExitStack() as stack:
                stdin = stack.enter_context(open("/dev/zero")) if content == "zero" else content
                stdin = io.TextIOWrapper(io.BytesIO(content)) if isinstance(content, bytes) else stdin
                before, sys.stdin = sys.stdin, stdin  # type: ignore[assignment]
                stack.callback(setattr, sys, "stdin", before)
                find_inputs(["-"])

        return run

    endless = {"no standard input": None, "/dev/zero": "zero", "brackets": b"[" * 100_000, "stars": b"*/" * 50_000}
    for name, content in {**BROKEN_FILES, **endless}.items():
        yield Attack("lists of images", name, listed(content))


def written() -> Iterator[Attack]:
    """What is written does not replace what is no file, and is plain in a spreadsheet."""

    def run(root: Path, kind: str) -> None:
        make_special(root / "x.json", kind)
        state = os.lstat(root / "x.json")
        with contextlib.suppress(OSError):
            state = os.stat(root / "x.json")
        with replacing(root / "x.json") as path:
            path.write_text("{}")
        if not os.path.stat.S_ISREG(state.st_mode) and not os.path.stat.S_ISLNK(state.st_mode):
            raise Silent("it was replaced")

    for kind in SPECIAL:
        yield Attack("written", f"over a {kind}", lambda root, kind=kind: run(root, kind))

    def formulas(root: Path) -> None:
        from PIL import Image

        names = [b"\xff.png".decode(errors="surrogateescape"), "=cmd.png"]
        for name in names:
            Image.fromarray(pixels()).save(os.path.join(root, name))
        place = os.getcwd()
        os.chdir(root)
        try:
            rows = predict_files(root, *names)
        finally:
            os.chdir(place)
        if not rows or any(row[key].startswith("=") for row in rows for key in ("file_name", "class_name")):
            raise Silent(f"{rows[:1]}")

    yield Attack("written", "formulas", formulas)


KINDS = (comparisons, logs, exported_files, videos, lists, written)
