"""The exception for errors that the user can fix, and the packages that may be missing."""

import typing
from typing import Any, TypeVar

EXTRAS = {  # the extra of this package that installs what `import` did not find
    **dict.fromkeys(("tensorflow", "keras", "tensorboard", "hotcoco", "jinja2", "matplotlib", "yaml"), "tensorflow"),
    "contourpy": "polygons",
    "jax": "jax",
    "onnxruntime": "runtime",
    "onnx": "onnx",
    "openvino": "openvino",
    "ai_edge_litert": "litert",
    "av": "video",
    "pandas": "pandas",
    "supervision": "track",
    "trackers": "track",
    "pyarrow": "batch",
    "huggingface_hub": "hub",
}

Options = TypeVar("Options")

MAX_LENGTH, KEPT_END = 1000, 300  # characters of a line, and of its end, which has the remedy, in a line that is cut


class UserError(Exception):
    """Bad input or an impossible setting. The message is one line: what is wrong, where, and what to do.

    The command line prints it as ``error: ...`` without a traceback and exits with status 2.
    """

    def __init__(self, message: object) -> None:
        super().__init__(one_line(message))


def expect(value: object, kind: Any, name: str) -> Any:
    """The value of an argument, if it is of a type or of one of several.

    Raises:
        UserError: it is of another one.
    """
    if not isinstance(value, kind):
        kinds = typing.get_args(kind) or (kind if isinstance(kind, tuple) else (kind,))
        names = " or ".join("None" if one is type(None) else one.__name__ for one in kinds)
        raise UserError(f"{name}: {type(value).__name__} given, expected {names}")
    return value


def given_or_default(options: Options | None, kind: type[Options], name: str) -> Options:
    """An argument that stands for ``kind()`` where it is None.

    Raises:
        UserError: it is of another type.
    """
    return kind() if options is None else expect(options, kind, name)


def printable(text: str) -> str:
    """Text without what a terminal obeys: control characters and lone surrogates of a hostile name are escaped."""
    return text if text.isprintable() else "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)


def one_line(message: object) -> str:
    """Text for a terminal or a log, `printable` and shortened."""
    text = printable(" ".join(str(message).split()))
    return text if len(text) <= MAX_LENGTH else f"{text[: MAX_LENGTH - KEPT_END]} ... {text[-KEPT_END:]}"


def describe_missing(error: ImportError) -> str | None:
    """The remedy for an optional package that is not installed, in one line; None for any other."""
    package = (error.name or "").partition(".")[0]
    if package not in EXTRAS:
        return None
    return f"{package} is not installed; run: pip install 'maskrcnn[{EXTRAS[package]}]'"


def first_line(error: BaseException) -> str:
    """The first line of an error of a library, or the name of its type."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]
