"""Work on the smallest padding bucket that holds all valid entries."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

from keras import ops


def run_on_bucket(function: Callable[[int], Any], filled: Any, sizes: Sequence[int]) -> Any:
    """``function(n)`` for the smallest n of ``sizes`` whose first slots hold all filled ones; only that one is run.

    Slots are padded to a fixed number, but work on empty ones is wasted. Each size is compiled, so let them be few.

    Args:
        function: of the number of slots; its results have the same shape for every number.
        filled: bool [B, N].
        sizes: rising; the last covers all slots.
    """
    if len(sizes) == 1:
        return function(sizes[0])
    slots = ops.arange(1, filled.shape[-1] + 1, dtype="int32")
    needed = ops.max(ops.where(filled, slots, 0))
    index = sum(ops.cast(needed > size, "int32") for size in sizes[:-1])
    return ops.switch(index, [functools.partial(function, size) for size in sizes])
