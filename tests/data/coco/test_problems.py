from pathlib import Path

import pytest

from maskrcnn.data.coco.problems import (
    NO_MASK,
    WHILE_READING,
    Problem,
    Severity,
    group_by_kind,
    is_tolerable,
    refuse,
    summarize,
    tolerated,
)
from maskrcnn.errors import UserError

FILE = Path("train.json")


def problems(count, kind="bad polygon", severity=Severity.SKIPPED, entry="annotation"):
    return [Problem(kind, FILE, f"{entry} {number}", "is wrong", severity) for number in range(count)]


@pytest.mark.parametrize(("total", "limit"), [(0, 0), (3, 0), (4, 1), (40, 10), (1000, 10), (5000, 50)])
def test_ten_or_one_percent_are_tolerated_but_no_more_than_a_quarter(total, limit):
    assert tolerated(total) == limit


def test_too_many_are_refused_and_the_flag_is_named():
    totals = {"annotation": 1000}
    refuse(problems(10), totals, skip_bad=False)
    assert not is_tolerable(problems(11), totals)
    with pytest.raises(UserError) as error:
        refuse(problems(11), totals, skip_bad=False)
    message = str(error.value)
    assert message.startswith(
        "train.json: 11 of 1000 annotations cannot be used (bad polygon: 11), the first: annotation 0"
    )
    assert "--skip_bad" in message
    refuse(problems(1000), totals, skip_bad=True)


def test_what_points_to_a_mistake_in_the_whole_file_is_hardly_tolerated():
    suspect = problems(2, "unlisted image", Severity.SUSPECT)
    refuse(suspect, {"annotation": 200}, skip_bad=False)
    with pytest.raises(UserError, match="2 of 199 annotations"):
        refuse(suspect, {"annotation": 199}, skip_bad=False)
    with pytest.raises(UserError, match="1 of 0 categories"):
        refuse(problems(1, severity=Severity.SUSPECT, entry="category"), {}, skip_bad=False)


def test_repairs_and_notes_are_no_loss():
    refuse(problems(50, severity=Severity.REPAIRED) + problems(50, severity=Severity.NOTED), {}, skip_bad=False)


def test_boxes_only_have_a_line_of_their_own():
    with pytest.raises(UserError, match=r"20 of 30 objects are boxes without masks.*--masks_from_boxes"):
        refuse(problems(20, NO_MASK), {"annotation": 30}, skip_bad=False)


def test_a_line_for_each_kind_the_most_frequent_first():
    mixed = [*problems(1, "bad RLE"), *problems(3, "flat polygon", Severity.REPAIRED)]
    assert summarize(mixed) == [
        "repaired 3 x flat polygon, the first: annotation 0: is wrong (train.json)",
        "skipped: annotation 0: is wrong (train.json)",
    ]
    read = [Problem(WHILE_READING, Path("a"), "file", text, Severity.REPAIRED) for text in ("2 skipped", "3 turned")]
    assert summarize([*read, *read]) == ["2 skipped", "3 turned"]
    assert [(group.kind, len(group.examples())) for group in group_by_kind(problems(9))] == [("bad polygon", 3)]
