"""What a caller of `train` gives: where the model starts from, and what does not change what is trained."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import keras

from maskrcnn.config import Config
from maskrcnn.errors import expect, given_or_default
from maskrcnn.input_files import as_path
from maskrcnn.logs.dllogger import LogOptions
from maskrcnn.runtime.distribution import Devices
from maskrcnn.training.presets import Recipe


@dataclass(frozen=True)
class Start:
    """The model that a run starts from."""

    weights: str | Path | None = None  # a whole model, see `maskrcnn.weights.transfer.load_whole`
    backbone_checkpoint: str | Path | None = None  # see `maskrcnn.weights.transfer.load_backbone`
    build_model: Callable[[Config], Any] | None = None  # None builds `MaskRCNN`

    def __post_init__(self) -> None:
        for name in ("weights", "backbone_checkpoint"):
            expect(getattr(self, name), str | Path | None, name)


@dataclass(frozen=True)
class RunOptions:
    """Options of a run that do not change what is trained."""

    evaluate: bool = True  # on the val split, as often as the config says and at the end
    eval_file: str | Path | None = None  # COCO annotations to evaluate with, instead of those of the val split
    logs: LogOptions = field(default_factory=LogOptions)
    devices: Devices | None = None  # from `maskrcnn.runtime.distribution.connect`; None is all of this machine

    def __post_init__(self) -> None:
        expect(self.logs, LogOptions, "logs")
        expect(self.devices, Devices | None, "devices")
        if self.eval_file is not None:
            as_path(self.eval_file)


def check_arguments(
    config: Config | Recipe,
    start: Start | None,
    options: RunOptions | None,
    callbacks: Sequence[keras.callbacks.Callback],
) -> tuple[Start, RunOptions]:
    """The start and the options of a run, with defaults for None.

    Raises:
        UserError: an argument is of another type.
    """
    expect(config, Config | Recipe, "config")
    expect(callbacks, list | tuple, "callbacks")
    return given_or_default(start, Start, "start"), given_or_default(options, RunOptions, "options")
