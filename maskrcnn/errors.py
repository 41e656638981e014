"""The exception for errors that the user can fix, and the packages that may be missing."""

EXTRAS = {  # the extra of this package that installs what `import` did not find
    **dict.fromkeys(("tensorflow", "keras", "tensorboard", "hotcoco", "jinja2", "matplotlib", "yaml"), "tensorflow"),
    "contourpy": "tensorflow",
    "jax": "jax",
    "onnxruntime": "runtime",
    "onnx": "onnx",
    "openvino": "openvino",
    "av": "video",
    "pandas": "pandas",
    "supervision": "track",
    "trackers": "track",
}


class UserError(Exception):
    """Bad input or an impossible setting. The message is one line: what is wrong, where, and what to do.

    The command line prints it as ``error: ...`` without a traceback and exits with status 2.
    """


def describe_missing(error: ImportError) -> str | None:
    """The remedy for an optional package that is not installed, in one line; None for any other."""
    package = (error.name or "").partition(".")[0]
    if package not in EXTRAS:
        return None
    return f"{package} is not installed; run: pip install 'maskrcnn[{EXTRAS[package]}]'"
