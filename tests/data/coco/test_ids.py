import math

import pytest

from maskrcnn.data.coco.ids import integer_ids, is_set, key_of, name_of


@pytest.mark.parametrize(
    ("value", "key"),
    [(7, 7), ("7", 7), (" 7 ", 7), (7.0, 7), ("a7", "a7"), ("", None), (7.5, None), (True, None), (None, None)],
)
def test_ids_of_one_value_are_equal(value, key):
    assert key_of(value) == key


def test_not_a_number_is_no_id():
    assert key_of(math.nan) is None
    assert key_of([1]) is None


def test_integers_are_kept_and_others_numbered_after_them():
    assert integer_ids([3, "a", 10, "b", "a"]) == {3: 3, "a": 11, 10: 10, "b": 12}
    assert integer_ids([2**60, -1, 4]) == {2**60: 5, -1: 6, 4: 4}  # no reader of JSON keeps the first


def test_flags():
    assert [is_set(flag) for flag in (1, True, "1", 1.0)] == [True] * 4
    assert [is_set(flag) for flag in (0, False, "0", None, [], {}, "no")] == [False] * 7


def test_messages_name_entries_by_id_or_position():
    assert name_of({"id": "a"}, 3) == "a"
    assert name_of({}, 3) == name_of(None, 3) == "at position 3"
