import io
import os

import numpy as np
import pytest
from PIL import Image

from maskrcnn.data.records import stored_images
from maskrcnn.data.records.stored_images import first_replaced, store_image
from maskrcnn.errors import UserError
from maskrcnn.imaging.read import ORIENTATION

PIXELS = np.random.default_rng(0).integers(0, 256, (12, 20, 3), np.uint8)


def decoded(stored):
    with Image.open(io.BytesIO(stored.data)) as image:
        assert image.format.lower() == stored.format
        assert image.mode == "RGB"
        return np.asarray(image)


def test_a_plain_jpeg_is_stored_as_it_is(tmp_path):
    path = tmp_path / "a.jpg"
    Image.fromarray(PIXELS).save(path, progressive=True)
    stored = store_image(path, 12, 20)
    assert (stored.data, stored.format) == (path.read_bytes(), "jpeg")


@pytest.mark.parametrize("mode", ["RGB", "L", "P", "RGBA", "LA"])
def test_other_kinds_become_rgb_pngs(tmp_path, mode):
    image = Image.fromarray(PIXELS).convert(mode)
    image.save(tmp_path / "a.png")
    pixels = decoded(store_image(tmp_path / "a.png", 12, 20))
    np.testing.assert_array_equal(pixels, np.asarray(image.convert("RGB")))


@pytest.mark.parametrize("mode", ["L", "CMYK"])
def test_grey_and_cmyk_jpegs_become_rgb_pngs(tmp_path, mode):
    Image.fromarray(PIXELS).convert(mode).save(tmp_path / "a.jpg")
    stored = store_image(tmp_path / "a.jpg", 12, 20)
    with Image.open(tmp_path / "a.jpg") as image:
        np.testing.assert_array_equal(decoded(stored), np.asarray(image.convert("RGB")))


def test_sixteen_bits_keep_the_upper_eight(tmp_path):
    values = np.arange(12 * 20, dtype=np.uint16).reshape(12, 20) * 256 + 77
    Image.fromarray(values).save(tmp_path / "a.png")
    np.testing.assert_array_equal(decoded(store_image(tmp_path / "a.png", 12, 20))[..., 1], values >> 8)


def rotated(path):
    exif = Image.Exif()
    exif[ORIENTATION] = 6  # shown turned by 90 degrees clockwise
    Image.fromarray(PIXELS).save(path, exif=exif, quality=95)
    with Image.open(path) as image:
        return np.asarray(image)


def test_annotated_upright_an_image_is_turned(tmp_path):
    raw = rotated(tmp_path / "a.jpg")
    stored = store_image(tmp_path / "a.jpg", 20, 12)
    assert (stored.format, stored.height, stored.width) == ("png", 20, 12)
    np.testing.assert_array_equal(decoded(stored), np.rot90(raw, -1))


def test_annotated_as_stored_an_image_is_not_turned(tmp_path):
    rotated(tmp_path / "a.jpg")
    stored = store_image(tmp_path / "a.jpg", 12, 20)
    assert stored.data == (tmp_path / "a.jpg").read_bytes()


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
def test_a_truncated_image_is_found(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    Image.fromarray(np.tile(PIXELS, (8, 8, 1))).save(path)
    path.write_bytes(path.read_bytes()[:-900])
    with pytest.raises(UserError, match=r"damaged or truncated|not a JPEG"):
        store_image(path, 96, 160)


def test_an_image_of_another_size_is_found(tmp_path):
    Image.fromarray(PIXELS).save(tmp_path / "a.png")
    with pytest.raises(UserError, match="is 20 x 12 px, annotated as 20 x 13"):
        store_image(tmp_path / "a.png", 13, 20)


def test_what_is_no_image_is_found(tmp_path):
    (tmp_path / "a.jpg").write_text("no image")
    with pytest.raises(UserError, match=r"damaged or truncated|not a JPEG"):
        store_image(tmp_path / "a.jpg", 13, 20)


@pytest.fixture
def stored_files(tmp_path):
    names = [f"{number}.png" for number in range(200)]
    Image.fromarray(PIXELS).save(tmp_path / names[0])
    for name in names[1:]:
        (tmp_path / name).write_bytes((tmp_path / names[0]).read_bytes())
    return names, [store_image(tmp_path / name, 12, 20).source for name in names]


def replace(path, data):
    """Other contents with another mtime."""
    path.write_bytes(data)
    os.utime(path, ns=(1, 1))


def test_a_replaced_image_is_noticed_whatever_its_size(tmp_path, stored_files):
    assert first_replaced(tmp_path, *stored_files) is None
    path = tmp_path / "7.png"
    data = path.read_bytes()
    replace(path, data[:-1] + b"x")
    assert first_replaced(tmp_path, *stored_files) == "7.png"
    replace(path, data + b"x")
    assert first_replaced(tmp_path, *stored_files) == "7.png"


def test_copied_and_missing_images_are_not_replaced(tmp_path, stored_files, monkeypatch):
    for name in stored_files[0]:
        os.utime(tmp_path / name, ns=(1, 1))
    (tmp_path / "9.png").unlink()
    read = []
    monkeypatch.setattr(stored_images, "read_bytes", lambda path, limit: read.append(path) or path.read_bytes())
    assert first_replaced(tmp_path, *stored_files) is None
    assert 60 <= len(read) <= 70  # a sample of them
