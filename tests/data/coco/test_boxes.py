import pytest

from maskrcnn.data.coco.boxes import box_alone, clip, fit_box
from maskrcnn.data.coco.images import ImageEntry
from maskrcnn.data.coco.problems import EntryError

IMAGE = ImageEntry(1, "1.jpg", 40, 64)


@pytest.mark.parametrize(
    ("bbox", "said"),
    [
        ([10, 5, 20, 10], None),  # the mask's own
        ([9, 4.5, 22, 12], None),  # a little around it
        ([11, 6, 18, 8], None),  # within the slack of 2 px and a twentieth of the side
        ([10, 5, 30, 15], "[x1, y1, x2, y2]"),
        ([20, 10, 20, 10], "does not fit"),  # from the center
        ([0, 0, 64, 40], "does not fit"),  # far too large
        ([10, 5, 20, -3], "degenerate"),
        (["a", 1, 2, 3], "not four finite numbers"),
    ],
)
def test_a_box_is_kept_if_it_fits_its_mask(bbox, said):
    repairs = []
    box = fit_box(bbox, (10.0, 5.0, 30.0, 15.0), IMAGE, lambda kind, text: repairs.append(text))
    if said is None:
        assert box == (bbox[0], bbox[1], bbox[0] + bbox[2], bbox[1] + bbox[3])
        assert not repairs
    else:
        assert box == (10, 5, 30, 15)
        (repair,) = repairs
        assert said in repair


def test_a_box_alone_must_be_xywh_in_pixels():
    assert box_alone((1, 2, 3, 4), None, IMAGE) == (1, 2, 4, 6)
    for box, kind in (((50, 30, 60, 35), "xyxy box"), ((0.1, 0.1, 0.5, 0.5), "normalized box"), (None, "bad box")):
        with pytest.raises(EntryError) as error:
            box_alone(box, box, IMAGE)
        assert error.value.kind == kind


def test_nothing_is_left_of_a_box_outside_its_image():
    assert clip((-1.0, 3.0, 5.0, 70.0), IMAGE) == (0, 3, 5, 40)
    with pytest.raises(EntryError, match="outside the image of 64 x 40"):
        clip((64.0, 0.0, 70.0, 5.0), IMAGE)
