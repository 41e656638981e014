"""Optional packages, imported where they are used."""

import importlib
from typing import Any

from maskrcnn.errors import UserError, describe_missing


def import_extra(module: str) -> Any:
    """Imports an optional package.

    Raises:
        UserError: it is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise UserError(describe_missing(error) or f"{module}: {error}") from error
