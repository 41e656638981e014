"""A file is kept only if it finds what the live model finds."""

import contextlib
import dataclasses
from pathlib import Path

import keras
import numpy as np
import onnx
import pytest

from maskrcnn.config import BoxHeadConfig, FPNConfig, MaskHeadConfig, RPNConfig
from maskrcnn.errors import UserError
from maskrcnn.export import onnx_file
from maskrcnn.export.check import agreement
from maskrcnn.export.options import FORMATS, ExportOptions, Format
from maskrcnn.export.run import export_model
from maskrcnn.inference.exported import load_exported
from maskrcnn.weights.model_folder import load_model, save_model
from maskrcnn.weights.variables import model_variables

pytestmark = pytest.mark.slow_under_jax  # compiles the live model; tests/inference/test_exported.py remains
SLOW = pytest.mark.slow  # nightly: whole exports once more, of what another case shows nearly as well

VERSION_2 = {
    "fpn": FPNConfig(channels=8, norm=True),
    "rpn": RPNConfig(convolutions=2, test_candidates=20, test_proposals=16),
    "box_head": BoxHeadConfig(convolutions=4, norm=True, conv_channels=8, dense_layers=1, channels=16, detections=12),
    "mask_head": MaskHeadConfig(channels=8, norm=True),
}
DETECTRON2 = {
    "image.std": (1.0, 1.0, 1.0),
    "image.bgr": True,
    "backbone.depth": 50,
    "backbone.stride_in_1x1": True,
    "anchors.rounded": False,
    "roi_align.aligned": True,
}


def architecture(name, config):
    if name == "v2":
        return dataclasses.replace(config, model=dataclasses.replace(config.model, **VERSION_2))
    # from 128 channels on, the live model's convolutions are Winograd's
    changes = {"v1": {"backbone.depth": 34}, "detectron2": DETECTRON2, "winograd": {"fpn.channels": 128}}
    return config.override(changes[name])


@contextlib.contextmanager
def first_channel_changed(kernel):
    before = keras.ops.convert_to_numpy(kernel)
    changed = before.copy()
    changed[..., 0] += 0.1
    kernel.assign(changed)
    yield
    kernel.assign(before)


def options(format, **changes):
    for package in FORMATS[format].packages:
        pytest.importorskip(package)
    return ExportOptions(format, **changes)


def output(folder, format):
    return folder / FORMATS[format].file


@pytest.mark.parametrize(
    ("name", "format"),
    [
        *[(name, "onnx") for name in ("v1", "v2", "detectron2", "winograd")],
        *[pytest.param(name, "openvino", marks=SLOW) for name in ("v2", "detectron2")],
        *[pytest.param(name, "litert", marks=SLOW) for name in ("v1", "v2", "detectron2")],
    ],
)
def test_every_architecture_equals_the_live_model(config, make_model, tmp_path, name, format):
    config = architecture(name, config)
    out = output(tmp_path / "new", format)
    exported = export_model((make_model(config), config), out, options(format))
    assert exported.path == out
    canvases = [row.image.rpartition(", ")[2] for row in exported.differences]
    assert canvases == ["64x96"] * 3 + ["96x64"] * 3
    assert max(row.detections for row in exported.differences) > 5
    assert [row.detections for row in exported.differences if row.image.startswith("no image")] == [0, 0]
    files = {out.name, "model.bin"} if format == "openvino" else {out.name}
    assert {path.name for path in out.parent.iterdir()} == files


@pytest.mark.parametrize(
    ("format", "changes"),
    [
        ("onnx", {"batch": 4, "size": (96, 64)}),
        ("onnx", {"batch": None}),
        pytest.param("openvino", {"batch": 4, "size": (96, 64)}, marks=SLOW),
        ("openvino", {"batch": None}),
        pytest.param("litert", {"batch": 4, "size": (96, 64)}, marks=SLOW),
    ],
)
def test_batches_and_sizes(config, make_model, tmp_path, format, changes):
    export_model((make_model(config), config), output(tmp_path, format), options(format, **changes))


def test_a_model_folder_gets_the_file(config, make_model, tmp_path, monkeypatch):
    def load_eager(folder):
        model, saved = load_model(folder)
        model.compile(run_eagerly=keras.backend.backend() == "tensorflow")  # quicker than tracing it
        return model, saved

    monkeypatch.setattr("maskrcnn.weights.model_folder.load_model", load_eager)
    save_model(make_model(config), config, tmp_path)
    assert export_model(tmp_path, options=options("onnx", size=(64, 96))).path == tmp_path / "export" / "model.onnx"
    assert (tmp_path / "export" / "model.onnx").is_file()


@pytest.mark.parametrize(
    "format", ["onnx", "openvino", pytest.param("litert", marks=SLOW), pytest.param("tensorrt", marks=SLOW)]
)
def test_half_precision_finds_nearly_the_same_in_half_the_size(config, make_model, tmp_path, format):
    config = config.override({"fpn.channels": 64})
    model = make_model(config)
    size = None if format == "onnx" else (64, 96)
    sizes = []
    for half in (False, True):
        out = output(tmp_path / str(half), format)
        exported = export_model((model, config), out, options(format, half=half, size=size))
        sizes.append(sum(path.stat().st_size for path in out.parent.iterdir()))
    assert sizes[1] < 0.8 * sizes[0]  # the graph itself is as large
    assert max(row.boxes for row in exported.differences) > 1e-5  # rounded
    assert agreement(exported.differences) > (0.8 if format == "openvino" else 0.98)
    assert load_exported(out).model.metadata["precision"] == ("bfloat16" if format == "openvino" else "float16")


@pytest.mark.parametrize("name", ["v1", pytest.param("v2", marks=SLOW), pytest.param("detectron2", marks=SLOW)])
def test_tensorrt_gets_static_shapes_and_no_operators_of_its_own(config, make_model, tmp_path, name):
    config = architecture(name, config)
    out = tmp_path / "model.onnx"
    exported = export_model((make_model(config), config), out, options("tensorrt", size=(64, 96), batch=2))
    assert max(row.detections for row in exported.differences) > 5
    graph = onnx.shape_inference.infer_shapes(onnx.load(out), data_prop=True).graph
    assert {node.domain for node in graph.node} == {""}
    dynamic = {"NonZero", "Compress", "Unique", "Loop", "If"}
    assert not dynamic & {node.op_type for node in graph.node}
    consumers = {name: node.op_type for node in graph.node for name in node.input}
    assert consumers["images"] == "Cast"  # TensorRT's only operation for uint8
    aligned = [node for node in graph.node if node.op_type == "RoiAlign"]
    shapes = {info.name: [side.dim_value for side in info.type.tensor_type.shape.dim] for info in graph.value_info}
    assert len(aligned) == 8
    assert {shapes[node.input[1]][0] for node in aligned} == {2 * 16, 2 * 12}  # proposals, detections


def test_tensorrt_needs_one_canvas_and_few_candidates(config, make_model, tmp_path):
    with pytest.raises(UserError, match="takes one canvas size; add --size 64 96 or --size 96 64"):
        export_model((make_model(config), config), tmp_path / "model.onnx", options("tensorrt"))
    many = config.override({"rpn.test_candidates": 4000})
    with pytest.raises(UserError, match=r"rpn\.test_candidates is 4000; TensorRT sorts 3840 at most"):
        export_model((make_model(config), many), tmp_path / "model.onnx", options("tensorrt", size=(64, 96)))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("format", "layer"),
    [
        ("onnx", "resnet/stem/conv"),
        pytest.param("onnx", "rpn/deltas/conv", marks=SLOW),
        ("onnx", "box_head/classes"),
        pytest.param("onnx", "mask_head/upsample", marks=SLOW),
        ("openvino", "mask_head/upsample"),
        pytest.param("litert", "mask_head/upsample", marks=SLOW),
        pytest.param("saved_model", "box_head/classes", marks=SLOW),
        pytest.param("tensorrt", "rpn/deltas/conv", marks=SLOW),
    ],
)
def test_a_file_with_another_weight_is_refused_and_nothing_is_left(
    config, make_model, tmp_path, monkeypatch, format, layer
):
    write = Format.write

    def write_wrong(kind, model, *arguments):
        with first_channel_changed(model_variables(model)[f"{layer}/kernel"]):
            write(kind, model, *arguments)

    monkeypatch.setattr(Format, "write", write_wrong)
    out = output(tmp_path / "new", format)
    with pytest.raises(UserError, match=f"{out.name}: differs from the live model and was not kept"):
        export_model((make_model(config), config), out, options(format, size=(64, 96)))
    assert not list(tmp_path.iterdir())


def test_an_earlier_file_stays_if_the_new_one_is_refused(config, make_model, tmp_path, monkeypatch):
    out, write = tmp_path / "model.onnx", onnx_file.onnx_file
    out.write_text("before")

    def write_wrong(model, *arguments):
        with first_channel_changed(model.box_head.class_logits.kernel):
            return write(model, *arguments)

    monkeypatch.setattr(onnx_file, "onnx_file", write_wrong)
    with pytest.raises(UserError, match="differs"):
        export_model((make_model(config), config), out)
    assert out.read_text() == "before"
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"]


def test_a_model_that_finds_nothing_is_not_exported(config, make_model, tmp_path):
    config = config.override({"box_head.score_threshold": 1.0})
    with pytest.raises(UserError, match=r"finds nothing.*--check_images"):
        export_model((make_model(config), config), tmp_path / "model.onnx")
    assert not list(tmp_path.iterdir())


def test_given_images_are_used(config, make_model, tmp_path):
    from PIL import Image

    image = tmp_path / "photo.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 90, 3), np.uint8)).save(image)
    exported = export_model(
        (make_model(config), config), tmp_path / "model.onnx", ExportOptions(check_images=[image], size=(64, 96))
    )
    assert [row.image for row in exported.differences] == ["photo.png, 64x96", "gray, 64x96", "no image, 64x96"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": "coreml"}, "format 'coreml' is not one of onnx, openvino, litert, saved_model, tensorrt"),
        (
            {"format": "saved_model", "half": True},
            "half is not available for the format saved_model; choose one of onnx, openvino",
        ),
        ({"int8": "data", "half": True}, "give one of int8 and half"),
        ({"format": "litert", "batch": None}, "batch dynamic: the format litert needs a number of images"),
        ({"batch": 0}, "batch 0: expected at least 1 image"),
        ({"size": (100, 96)}, "size 100x96: expected multiples of 32"),
    ],
)
def test_wrong_options_are_refused(changes, message):
    with pytest.raises(UserError, match=message):
        ExportOptions(**changes)


def test_a_wrong_suffix_and_a_missing_folder_are_refused(tmp_path):
    with pytest.raises(UserError, match=r"expected a file name ending in \.onnx"):
        export_model(tmp_path, tmp_path / "model.pb")
    with pytest.raises(UserError, match="give a folder in which `maskrcnn train` has run"):
        export_model(tmp_path / "nothing")
    assert not list(tmp_path.iterdir())


def test_a_model_in_half_precision_is_refused(config, make_model):
    model = make_model(config, "mixed_bfloat16")
    with pytest.raises(UserError, match="computes in bfloat16"):
        export_model((model, config), Path("model.onnx"))
