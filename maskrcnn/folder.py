"""The model folder: ``config.json`` and ``model.weights.h5``, all that eval, infer and export need."""

from pathlib import Path

from maskrcnn.config import Config, load_config
from maskrcnn.errors import UserError
from maskrcnn.files import replacing
from maskrcnn.model import MaskRCNN

CONFIG_FILE = "config.json"
WEIGHTS_FILE = "model.weights.h5"


def save_config(config: Config, model_dir: str | Path) -> None:
    with replacing(Path(model_dir) / CONFIG_FILE) as path:
        path.write_text(config.to_json(), encoding="utf-8")


def save_model(model: MaskRCNN, config: Config, model_dir: str | Path) -> None:
    """Writes the model's folder; a reader never meets a half-written file."""
    save_config(config, model_dir)
    with replacing(Path(model_dir) / WEIGHTS_FILE) as path:
        model.save_weights(path)


def load_model_config(model_dir: str | Path) -> Config:
    """The config of a trained model's folder.

    Raises:
        UserError: the folder holds no model.
    """
    model_dir = Path(model_dir)
    if not (model_dir / WEIGHTS_FILE).is_file():
        raise UserError(f"{model_dir}: no {WEIGHTS_FILE} here; give a folder that `maskrcnn train` finished")
    return load_config(model_dir / CONFIG_FILE)


def load_model(model_dir: str | Path) -> tuple[MaskRCNN, Config]:
    """The trained model of a folder and its config.

    Raises:
        UserError: the folder holds no model, or its two files do not belong together.
    """
    config = load_model_config(model_dir)
    model = MaskRCNN(config)
    load_weights(model, Path(model_dir) / WEIGHTS_FILE)
    return model, config


def load_weights(model: MaskRCNN, path: Path) -> None:
    """Sets all of the model's variables from a ``.weights.h5`` file.

    Raises:
        UserError: the file is damaged, or is another architecture's.
    """
    try:
        model.load_weights(path)
    except (ValueError, KeyError, OSError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(f"{path}: not the weights of the model that {CONFIG_FILE} describes ({reason})") from error
