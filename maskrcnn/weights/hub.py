"""Model folders on the Hugging Face Hub, or a server like it that HF_ENDPOINT names."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from maskrcnn.errors import UserError
from maskrcnn.runtime.extras import import_extra
from maskrcnn.weights.model_card import PICTURE_FILE, CardText, model_card
from maskrcnn.weights.model_files import BEST, CONFIG_FILE, WEIGHTS_FILE, load_model_config

CARD_FILE = "README.md"


def push(model_dir: str | Path, repository: str, text: CardText | None = None, *, private: bool = False) -> str:
    """Uploads a model folder's config and weights and a model card as one commit, and returns the page's address.

    Nothing else of the folder is uploaded: metrics.json and the report name files and show images of the data.

    Args:
        model_dir: a folder with a trained or imported model.
        repository: OWNER/NAME, which is created if it is missing.
        text: what the card says beside what the folder tells; its picture is uploaded too.
        private: whether a repository that is created is private.

    Raises:
        UserError: no model, a run that has not finished, no token, no right to write there, or a server that cannot be
            reached.
    """
    hub, folder, text = import_extra("huggingface_hub"), Path(model_dir), text or CardText()
    config = load_model_config(folder)
    if not (folder / WEIGHTS_FILE).is_file():
        raise UserError(f"{folder}: the run has not finished; resume it, or push {folder / BEST} if it is there")
    card = model_card(repository, config, folder, text)
    files: dict[str, Any] = {CONFIG_FILE: folder / CONFIG_FILE, WEIGHTS_FILE: folder / WEIGHTS_FILE}
    if text.picture:
        if text.picture.suffix.lower() != ".png" or not text.picture.is_file():
            raise UserError(f"{text.picture}: no such PNG file; give the picture for the card as PNG")
        files[PICTURE_FILE] = text.picture
    files[CARD_FILE] = card.encode()
    with _failures(repository):
        api = hub.HfApi(endpoint=os.environ.get("HF_ENDPOINT"))
        api.create_repo(repository, private=private, exist_ok=True)
        operations = [hub.CommitOperationAdd(name, content) for name, content in files.items()]
        api.create_commit(repository, operations, commit_message="Upload with maskrcnn")
        return f"{api.endpoint}/{repository}"


def pull(repository: str, model_dir: str | Path, *, revision: str | None = None) -> Path:
    """Downloads a model folder, without anything that is not needed to use it, and returns it.

    Args:
        repository: OWNER/NAME.
        model_dir: folder for the model.
        revision: a branch, tag or commit; None is the main branch.

    Raises:
        UserError: no such repository or revision, no model in it, a folder that has one already, or an unreachable
            server.
    """
    hub, folder = import_extra("huggingface_hub"), Path(model_dir)
    if (folder / WEIGHTS_FILE).exists():
        raise UserError(f"{folder}: has a model already; give another folder")
    with _failures(repository):
        api = hub.HfApi(endpoint=os.environ.get("HF_ENDPOINT"))
        names = {item.rfilename for item in api.model_info(repository, revision=revision).siblings or []}
        if not {CONFIG_FILE, WEIGHTS_FILE} <= names:
            raise UserError(f"{repository}: no {CONFIG_FILE} and {WEIGHTS_FILE} there; give a model of `maskrcnn push`")
        for name in (CARD_FILE, CONFIG_FILE, WEIGHTS_FILE):  # the weights last: they make it a model folder
            if name in names:
                api.hf_hub_download(repository, name, revision=revision, local_dir=folder)
    load_model_config(folder)
    return folder


@contextlib.contextmanager
def _failures(repository: str) -> Iterator[None]:
    """Turns what huggingface_hub raises into one line."""
    errors = import_extra("huggingface_hub.errors")
    try:
        yield
    except errors.LocalTokenNotFoundError as error:
        raise UserError(f"{repository}: no token for the Hub; run `hf auth login`, or set HF_TOKEN") from error
    except errors.HFValidationError as error:
        raise UserError(f"{repository}: not a repository of the Hub; give OWNER/NAME") from error
    except errors.RevisionNotFoundError as error:
        raise UserError(f"{repository}: no such revision there; check --revision") from error
    except errors.RepositoryNotFoundError as error:
        raise UserError(
            f"{repository}: no such repository, or a private one without a token for it; check it"
        ) from error
    except errors.HfHubHTTPError as error:
        status = getattr(error.response, "status_code", None)
        remedy = "check the token and its rights (`hf auth whoami`)" if status in (401, 403) else "try again later"
        raise UserError(f"{repository}: the Hub answers {status or error}; {remedy}") from error
    except UserError:
        raise
    except Exception as error:  # of its HTTP client, whichever that is
        if isinstance(error, OSError) and error.filename:
            raise
        raise UserError(f"{repository}: the Hub cannot be reached ({error}); check the network connection") from error
