"""Scalars for TensorBoard."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any


class ScalarWriter:
    """Writes scalars to one of TensorBoard's event files.

    A resumed run has a file of its own, and may write a step again: TensorBoard shows the later value.
    """

    def __init__(self, directory: str | Path):
        from tensorboard.summary import Writer  # imports TensorFlow: only if asked for

        self._writer = Writer(str(directory))

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Writes the values of a step; they are on the disk when the call returns."""
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)
        self._writer.flush()

    def write_images(self, step: int, images: Mapping[str, Any]) -> None:
        """The page of the run has the images."""

    def close(self) -> None:
        """Closes the file."""
        self._writer.close()
