"""The files of a model folder, found without Keras, so that a folder without a model is an error at once."""

from pathlib import Path

from maskrcnn.config import Config, load_config
from maskrcnn.errors import UserError
from maskrcnn.input_files import as_path

CONFIG_FILE = "config.json"
WEIGHTS_FILE = "model.weights.h5"
BEST = "best"  # the folder of the best model, in a run's
CHECKPOINTS = "checkpoints/step-*.npz"


def load_model_config(model_dir: str | Path) -> Config:
    """Reads the config of a trained model.

    Raises:
        UserError: the folder holds no model.
    """
    model_dir = as_path(model_dir)
    find_weights_file(model_dir)
    return load_config(model_dir / CONFIG_FILE)


def find_weights_file(model_dir: Path) -> Path:
    """The weights in a folder; of a run that has not finished, those of its best model, else its newest checkpoint.

    Raises:
        UserError: the folder holds no model.
    """
    places = [model_dir / WEIGHTS_FILE, model_dir / BEST / WEIGHTS_FILE, *sorted(model_dir.glob(CHECKPOINTS))[::-1]]
    found = next((path for path in places if path.is_file()), None)
    if found is None:
        raise UserError(f"{model_dir}: no {WEIGHTS_FILE} here; give a folder in which `maskrcnn train` has run")
    return found
