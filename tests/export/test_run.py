"""A file is written only if it finds what the live model finds."""
from tests.export.conftest import make_model
