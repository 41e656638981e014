"""The types of the config's fields, with their ranges.

They are far wider than what is in use, and yet keep a hostile config.json from describing a model that fills the
memory.
"""

from typing import Annotated

from maskrcnn.config.typed_fields import Rule, between
from maskrcnn.input_files import is_path

ASCENDING = Rule(lambda numbers: list(numbers) == sorted(numbers), "in ascending order")


def _items(low: int, high: int) -> Rule:
    count = low if low == high else f"{low} to {high}"
    return Rule(lambda items: low <= len(items) <= high, f"of {count} numbers")


# Whole numbers
Side = Annotated[int, between(1, 4096)]  # px
Channels = Annotated[int, between(1, 4096)]
StemChannels = Annotated[int, between(1, 512)]
Layers = Annotated[int, between(1, 16)]
LayersOrNone = Annotated[int, between(0, 16)]
Stages = Annotated[int, between(0, 5)]
PoolSize = Annotated[int, between(1, 32)]
Samples = Annotated[int, between(1, 16)]  # along a side of a bin
Boxes = Annotated[int, between(1, 100_000)]  # of an image
Instances = Annotated[int, between(1, 10_000)]  # of an image
Images = Annotated[int, between(1, 100_000)]  # of a batch
Epochs = Annotated[int, between(1, 1_000_000)]
Steps = Annotated[int, between(1, 10**8)]
Period = Annotated[int, between(0, 10**8)]  # of steps, epochs or evaluations; 0 is never
Checkpoints = Annotated[int, between(1, 100_000)]
Seed = Annotated[int, between(0, 2**32 - 1)]
Index = Annotated[int, between(1, 65_535)]
Id = Annotated[int, between(-(2**63), 2**63 - 1)]

# Numbers
Fraction = Annotated[float, between(0, 1)]
Score = Annotated[float, between(-1, 1)]  # a threshold of -1 keeps all
IoU = Annotated[float, between(0.001, 1)]
Pixels = Annotated[float, between(0, 4096)]
Channel = Annotated[float, between(-1000, 1000)]  # of a color
Scale = Annotated[float, between(0.001, 10_000)]
Ratio = Annotated[float, between(0.01, 100)]
Beta = Annotated[float, between(1e-6, 1000)]
Rate = Annotated[float, between(0, 1e6)]
Norm = Annotated[float, between(1e-9, 1e9)]
Decay = Annotated[float, between(1e-6, 1 - 1e-6)]
Minutes = Annotated[float, between(0.001, 1e7)]

# Lists
Color = tuple[Channel, Channel, Channel]
ColorScale = tuple[Scale, Scale, Scale]
Weights = tuple[Scale, Scale, Scale, Scale]
Sides = Annotated[tuple[Side, ...], _items(5, 5)]  # of P2..P6
Ratios = Annotated[tuple[Ratio, ...], _items(1, 16)]
Interval = Annotated[tuple[Ratio, Ratio], ASCENDING]
Rates = Annotated[tuple[Rate, ...], _items(1, 100)]
Boundaries = Annotated[tuple[Annotated[float, between(0, 1_000_000)], ...], _items(1, 100), ASCENDING]

# Text
Name = Annotated[str, Rule(lambda text: text.isidentifier() and len(text) < 100, "that is a name")]
FilePath = Annotated[str, Rule(is_path, "of 1 to 4095 characters in UTF-8 without NUL")]
