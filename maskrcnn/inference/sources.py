"""Whatever a model can be loaded from: a model folder, a checkpoint, published weights, an exported file."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from maskrcnn.config import Config
from maskrcnn.inference.exported import SUFFIXES, exported_files, is_saved_model, load_exported
from maskrcnn.inference.predictor import Predictor
from maskrcnn.input_files import as_path
from maskrcnn.runtime.extras import import_extra


@dataclass(frozen=True)
class ModelSource:
    """A model that was found and is not built yet."""

    config: Config
    build: Callable[[Config], Predictor]  # with this config, which may differ from the saved one in what weights allow
    files: tuple[Path, ...]  # all that its predictions depend on


def load(source: str | Path) -> Predictor:
    """The predictor of a model folder, a checkpoint file, published weights (a name or a URL), or an exported file.

    An exported ``.onnx``, ``.xml`` or ``.tflite`` file needs neither Keras nor TensorFlow nor JAX, a SavedModel only
    TensorFlow.

    Raises:
        UserError: there is no such model, or it cannot be downloaded.
    """
    found = open_source(source)
    return found.build(found.config)


def open_source(source: str | Path) -> ModelSource:
    """Finds a model and reads its config; see `load`.

    Raises:
        UserError: there is no such model, or it cannot be downloaded.
    """
    if is_exported(source):
        predictor = load_exported(source)
        return ModelSource(predictor.config, lambda config: Predictor(predictor.model, config), exported_files(source))
    import_extra("keras")
    from maskrcnn.weights.importing import open_model  # imports Keras
    from maskrcnn.weights.published import find_weights

    opened = open_model(find_weights(source))
    return ModelSource(opened.config, lambda config: Predictor(opened.load(config), config), opened.files)


def is_exported(source: str | Path) -> bool:
    """Whether a name is that of a file, or a SavedModel folder, of `maskrcnn export`."""
    path = as_path(source)
    return path.suffix in SUFFIXES or is_saved_model(path)
