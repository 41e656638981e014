"""Ids as exporters write them: integers, integers as text, names, or none at all."""

import reprlib
from collections.abc import Hashable, Iterable
from itertools import count
from typing import Any

Key = int | str
MAX_SHOWN = 80  # characters of an id
LARGEST = 2**53  # JSON's readers, COCOeval among them, hold larger integers in floats


def key_of(value: Any) -> Key | None:
    """An id in one form, so that 7, 7.0 and "7" are equal; None if it cannot be an id."""
    if type(value) is int:
        return value
    if isinstance(value, float):
        return int(value) if value.is_integer() else None
    if isinstance(value, str):
        text = value.strip()
        return int(text) if text.isascii() and text.isdigit() and len(text) < 20 else text or None
    return None


def image_key(entry: dict[str, Any]) -> Key | None:
    """An image's id, or its file name where it has none."""
    return key_of(entry.get("file_name") if entry.get("id") is None else entry["id"])


def integer_ids(keys: Iterable[Key]) -> dict[Key, int]:
    """An integer for each distinct key: itself where it is one that COCO's tools take, else the next free one."""
    distinct = list(dict.fromkeys(keys))
    kept = {key for key in distinct if isinstance(key, int) and 0 <= key < LARGEST}
    first = max(kept, default=0) + 1
    numbers = count(first if first + len(distinct) <= LARGEST else 1)
    free = (number for number in numbers if number not in kept)
    return {key: key if isinstance(key, int) and key in kept else next(free) for key in distinct}


def is_set(flag: Any) -> bool:
    """Whether a flag such as ``iscrowd`` is set: 1, true or "1"."""
    return isinstance(flag, Hashable) and flag in (1, "1", "true", "True")


def name_of(entry: Any, position: int) -> str:
    """What messages call an entry of a list: its id, or its position from 0."""
    identity = key_of(entry.get("id")) if isinstance(entry, dict) else None
    return f"at position {position}" if identity is None else shown(identity)


def shown(value: Any) -> str:
    """A value as messages show it, shortened."""
    return value[:MAX_SHOWN] if isinstance(value, str) else reprlib.repr(value)
