"""A file is kept only if it finds what the live model finds."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from onnx import numpy_helper

from maskrcnn.config import BoxHeadConfig, FPNConfig, MaskHeadConfig, RPNConfig
from maskrcnn.errors import UserError
from maskrcnn.export import write as writing
from maskrcnn.export.run import ExportOptions, export_model
from maskrcnn.weights.model_folder import save_model

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


def options(format, **changes):
    if format == "openvino":
        pytest.importorskip("openvino")
    return ExportOptions(format, **changes)


@pytest.mark.parametrize(
    ("name", "format"),
    [
        *[(name, "onnx") for name in ("v1", "v2", "detectron2", "winograd")],
        ("v2", "openvino"),
        pytest.param("detectron2", "openvino", marks=SLOW),
    ],
)
def test_every_architecture_equals_the_live_model(config, make_model, tmp_path, name, format):
    config = architecture(name, config)
    out = tmp_path / "new" / {"onnx": "model.onnx", "openvino": "model.xml"}[format]
    exported = export_model((make_model(config), config), out, options(format))
    assert exported.path == out
    canvases = [row.image.rpartition(", ")[2] for row in exported.differences]
    assert canvases == ["64x96"] * 6 + ["96x64"] * 6
    assert max(row.detections for row in exported.differences) > 5
    assert [row.detections for row in exported.differences if row.image.startswith("no image")] == [0, 0]
    files = {"onnx": {"model.onnx"}, "openvino": {"model.xml", "model.bin"}}[format]
    assert {path.name for path in out.parent.iterdir()} == files


@pytest.mark.parametrize(
    ("format", "changes"),
    [
        ("onnx", {"batch": 4, "size": (96, 64)}),
        ("onnx", {"batch": None}),
        pytest.param("openvino", {"batch": 4, "size": (96, 64)}, marks=SLOW),
        ("openvino", {"batch": None}),
    ],
)
def test_batches_and_sizes(config, make_model, tmp_path, format, changes):
    out = tmp_path / {"onnx": "model.onnx", "openvino": "model.xml"}[format]
    export_model((make_model(config), config), out, options(format, **changes))


def test_a_model_folder_gets_the_file(config, make_model, tmp_path):
    save_model(make_model(config), config, tmp_path)
    assert export_model(tmp_path).path == tmp_path / "export" / "model.onnx"
    assert (tmp_path / "export" / "model.onnx").is_file()


@pytest.mark.parametrize(
    ("format", "weight"),
    [
        ("onnx", "resnet/stem"),
        pytest.param("onnx", "rpn/deltas", marks=SLOW),
        ("onnx", "box_head/classes"),
        pytest.param("onnx", "mask_head/upsample", marks=SLOW),
        ("openvino", "mask_head/upsample"),
    ],
)
def test_a_file_with_another_weight_is_refused_and_nothing_is_left(
    config, make_model, tmp_path, monkeypatch, format, weight
):
    write = writing.onnx_file

    def write_wrong(model, config, options):
        written = write(model, config, options)
        kernel = next(node.input[1] for node in written.graph.node if node.name == weight)
        tensor = next(constant for constant in written.graph.initializer if constant.name == kernel)
        changed = numpy_helper.to_array(tensor).copy()
        changed[..., 0] += 0.1
        tensor.CopyFrom(numpy_helper.from_array(changed, kernel))
        return written

    monkeypatch.setattr(writing, "onnx_file", write_wrong)
    out = tmp_path / "new" / {"onnx": "model.onnx", "openvino": "model.xml"}[format]
    with pytest.raises(UserError, match=f"{out.name}: differs from the live model and was not kept"):
        export_model((make_model(config), config), out, options(format))
    assert not list(tmp_path.iterdir())


def test_an_earlier_file_stays_if_the_new_one_is_refused(config, make_model, tmp_path, monkeypatch):
    out, write = tmp_path / "model.onnx", writing.onnx_file
    out.write_text("before")
    other = make_model(config)
    other.box_head.class_logits.bias.assign(np.arange(4, dtype=np.float32))
    monkeypatch.setattr(writing, "onnx_file", lambda model, *arguments: write(other, *arguments))
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
        ({"format": "coreml"}, "format 'coreml' is not one of onnx, openvino, saved_model"),
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
    with pytest.raises(UserError, match="give a folder in which `maskrcnn train` has finished"):
        export_model(tmp_path / "nothing")
    assert not list(tmp_path.iterdir())


def test_half_precision_is_refused(config, make_model):
    import keras

    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model = make_model(config)
    finally:
        keras.config.set_dtype_policy("float32")
    with pytest.raises(UserError, match="computes in bfloat16"):
        export_model((model, config), Path("model.onnx"))
