"""One training run in one model folder."""
