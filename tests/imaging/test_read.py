"""Reads every kind of image, refuses other files, and compares the canvas with torchvision's recorded numbers."""

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from maskrcnn.config import ImageConfig
from maskrcnn.errors import UserError
from maskrcnn.imaging.canvas import canvas_size, prepare, resize, resized_size
from maskrcnn.imaging.read import list_images, load_image, reason

GOLDENS = Path(__file__).parents[1] / "fixtures" / "goldens"


def _gradient(height: int = 20, width: int = 30) -> np.ndarray:
    rows, columns = np.mgrid[:height, :width]
    return np.stack([rows * 8, columns * 8, rows + columns], axis=-1).astype(np.uint8)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "LA", "1", "P", "CMYK", "YCbCr"])
def test_every_mode_becomes_rgb(tmp_path: Path, mode: str) -> None:
    original = Image.fromarray(_gradient()).convert(mode)
    path = tmp_path / ("image.tif" if mode in ("CMYK", "YCbCr") else "image.png")
    original.save(path)
    image = load_image(path)
    assert image.dtype == np.uint8
    assert image.shape == (20, 30, 3)
    np.testing.assert_allclose(image.astype(int), np.asarray(original.convert("RGB")).astype(int), atol=2)


def test_sixteen_bits_keep_the_high_byte(tmp_path: Path) -> None:
    values = np.array([[0, 255, 256], [0x1234, 0xFF00, 0xFFFF]], np.uint16)
    Image.fromarray(values).save(tmp_path / "deep.png")
    image = load_image(tmp_path / "deep.png")
    np.testing.assert_array_equal(image[..., 0], [[0, 0, 1], [0x12, 0xFF, 0xFF]])
    np.testing.assert_array_equal(image[..., 0], image[..., 2])


@pytest.mark.parametrize(
    ("bits", "depth"), [(8, 8), (9, 10), (10, 10), (12, 12), (13, 14), (14, 14), (15, 16), (16, 16)]
)
def test_fewer_bits_in_sixteen_are_scaled_to_eight(tmp_path: Path, bits: int, depth: int) -> None:
    values = np.array([[0, 1 << (bits - 1), (1 << bits) - 1]], np.uint16)
    Image.fromarray(values).save(tmp_path / "sensor.png")
    np.testing.assert_array_equal(load_image(tmp_path / "sensor.png")[..., 0], values >> (depth - 8))


def test_a_transparent_palette_reads_without_a_warning(tmp_path: Path) -> None:
    image = Image.fromarray(_gradient()).convert("P")
    image.save(tmp_path / "palette.png", transparency=bytes(range(256)))
    assert load_image(tmp_path / "palette.png").shape == (20, 30, 3)


@pytest.mark.parametrize(("orientation", "turned"), [(3, 2), (6, 3), (8, 1)])
def test_exif_turns_the_image_upright(tmp_path: Path, orientation: int, turned: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(_gradient()).save(tmp_path / "turned.png", exif=exif)
    np.testing.assert_array_equal(load_image(tmp_path / "turned.png"), np.rot90(_gradient(), turned))


def test_files_that_are_not_images_are_named(tmp_path: Path) -> None:
    (tmp_path / "text.jpg").write_text("plain text")
    (tmp_path / "empty.png").write_bytes(b"")
    for name, problem in [("text.jpg", "not a JPEG"), ("empty.png", "not a JPEG"), ("none.png", "no such file")]:
        with pytest.raises(UserError, match=rf"{name}: {problem}"):
            load_image(tmp_path / name)
    with pytest.raises(UserError, match="is a folder"):
        load_image(tmp_path)


def test_other_formats_are_not_decoded_whatever_their_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "page.jpg"
    Image.fromarray(_gradient()).save(path, "EPS")
    monkeypatch.setattr("PIL.EpsImagePlugin.Ghostscript", lambda *_, **__: pytest.fail("Ghostscript was started"))
    with pytest.raises(UserError, match=r"page\.jpg: not a JPEG, PNG, BMP, GIF, TIFF or WebP image"):
        load_image(path)


def test_a_pipe_is_refused_without_waiting_for_it(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    with pytest.raises(UserError, match=r"pipe\.jpg: not a regular file"):
        load_image(tmp_path / "pipe.jpg")


def test_a_photo_of_several_frames_reads_as_its_first(tmp_path: Path) -> None:
    frames = [Image.fromarray(np.full((8, 8, 3), value, np.uint8)) for value in (200, 10)]
    frames[0].save(tmp_path / "phone.jpg", "MPO", save_all=True, append_images=frames[1:])
    np.testing.assert_allclose(load_image(tmp_path / "phone.jpg"), 200, atol=2)


def test_reasons_name_no_python_objects() -> None:
    error = OSError("cannot identify image file <_io.BytesIO object at 0x7f00>")
    assert reason(error) == "cannot identify image file"


@pytest.mark.parametrize("name", ["photo.jpg", "photo.png", "photo.webp", "photo.gif", "photo.tif"])
def test_a_truncated_file_is_refused(tmp_path: Path, name: str) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    path = tmp_path / name
    Image.fromarray(noise).save(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(UserError, match=rf"{name}: .*(damaged|not a JPEG)"):
        load_image(path)


def test_float_pixels_are_refused(tmp_path: Path) -> None:
    Image.fromarray(np.zeros((4, 4), np.float32)).save(tmp_path / "depth.tif")
    with pytest.raises(UserError, match="floating-point"):
        load_image(tmp_path / "depth.tif")


def test_images_in_folders_are_listed_in_order(tmp_path: Path) -> None:
    for name in ["b.JPG", "a.png", "inner/c.webp", "notes.txt", ".hidden/d.png", "e.json"]:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert [path.relative_to(tmp_path).as_posix() for path in list_images(tmp_path)] == [
        "a.png",
        "b.JPG",
        "inner/c.webp",
    ]


def test_resizing_equals_torchvision() -> None:
    golden = np.load(GOLDENS / "ops.npz")
    norm = ImageConfig()
    for case, (height, width, min_side, max_side) in enumerate(golden["transform.cases"].tolist()):
        config = ImageConfig(min_side=min_side, max_side=max_side)
        size = resized_size(height, width, config)
        assert size == tuple(golden[f"transform.{case}.output_size"])
        image = golden[f"transform.{case}.image"].transpose(1, 2, 0)
        normalized = golden[f"transform.{case}.output"].transpose(1, 2, 0)[: size[0], : size[1]]
        expected = normalized * np.array(norm.std) + np.array(norm.mean)
        np.testing.assert_allclose(resize(image, size), expected, atol=0.501)  # rounded to whole values


def test_sizes_by_hand() -> None:
    config = ImageConfig()  # 832 and 1344
    assert resized_size(480, 640, config) == (832, 1109)  # 640 * 832 / 480 = 1109.3
    assert resized_size(427, 640, config) == (832, 1247)
    assert resized_size(640, 427, config) == (1247, 832)
    assert resized_size(300, 600, config) == (672, 1344)  # held by the longer side
    assert resized_size(500, 3, config) == (1344, 8)
    assert resized_size(1, 5000, config) == (1, 1344)  # never nothing
    assert canvas_size(480, 640, config) == (832, 1344)
    assert canvas_size(640, 480, config) == (1344, 832)
    assert canvas_size(7, 7, ImageConfig(min_side=100, max_side=130)) == (128, 160)


def test_prepare_puts_the_image_top_left() -> None:
    prepared = prepare(_gradient(40, 20), ImageConfig(min_side=32, max_side=64))
    assert prepared.canvas.shape == (64, 32, 3)
    assert prepared.image_size == (64, 32)
    assert prepared.original_size == (40, 20)
    prepared = prepare(np.full((20, 30, 3), 255, np.uint8), ImageConfig(min_side=20, max_side=40))
    assert prepared.canvas.shape == (32, 64, 3)
    assert (prepared.canvas[:20, :30] == 255).all()
    assert not prepared.canvas[20:].any()
    assert not prepared.canvas[:, 30:].any()
