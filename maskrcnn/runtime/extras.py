"""Optional packages, imported where they are used."""

import importlib
from typing import Any

from maskrcnn.errors import UserError


def import_extra(module: str, extra: str) -> Any:
    """Imports an optional package.

    Raises:
        UserError: it is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise UserError(f"{module} is not installed; run: pip install 'maskrcnn[{extra}]'") from error
