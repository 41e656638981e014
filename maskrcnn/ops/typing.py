"""Types of tensors with their shapes: ``Float[Tensor, "B N 4"]``, written as jaxtyping writes them.

A shape names its dimensions with the letters of the module's legend; ``...`` stands for any leading dimensions, an
empty shape for a scalar, and a single name has a space before it, or linters take it for a variable. Type checkers see
the tensor alone, nothing is checked at run time, and no package has to be installed or imported for it.
"""

from typing import Annotated as Bool
from typing import Annotated as Float
from typing import Annotated as Int
from typing import Annotated as Number
from typing import Any

__all__ = ["Bool", "Float", "Int", "Number", "Size", "Tensor"]

Tensor = Any  # a tensor of the active Keras backend; Keras has no common type for them
Size = int | Int[Tensor, ""]  # an int, or a scalar where TensorFlow does not know it while tracing
