"""Work on the smallest padding bucket that holds all valid entries.

Entries are padded to a fixed number, and work on padding is wasted. A bucket is a number of first entries; each is
compiled, so let them be few. At 832x1344 on two cores of an AMD EPYC the matching of the RPN falls from 241 to 72 ms
where a quarter of the 100 ground-truth entries are enough (JAX: 328 to 102 ms), and up to 180 of the 830 GMAC of a
training step are saved in the mask head where an image has few positives (docs/performance.md).
"""

import functools
from collections.abc import Callable, Sequence
from typing import TypeVar

import keras
from keras import ops

from maskrcnn.ops.typing import Bool, Tensor
from maskrcnn.runtime import compiler

Entries = TypeVar("Entries")
Result = TypeVar("Result")


def run_on_bucket(
    function: Callable[[Entries], Result], entries: Entries, valid: Bool[Tensor, "B N"], sizes: Sequence[int]
) -> Result:
    """Calls ``function`` with the first n entries, for the smallest n of ``sizes`` that holds all valid ones.

    Args:
        function: its results have the same shape for every n; only the chosen size is run.
        entries: tensors [B, N, ...], alone or nested.
        valid: False for padding.
        sizes: rising; the last is N.
    """

    def run(size: int) -> Result:
        return function(keras.tree.map_structure(lambda tensor: tensor[:, :size], entries))

    if len(sizes) == 1 or compiler.traces_plainly():
        return run(sizes[-1])
    positions = ops.arange(1, valid.shape[-1] + 1, dtype="int32")
    needed = ops.max(ops.where(valid, positions, 0))
    index = sum(ops.cast(needed > size, "int32") for size in sizes[:-1])
    return ops.switch(index, [functools.partial(run, size) for size in sizes])
