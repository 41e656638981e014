"""TFRecords: converting a dataset to them, and reading them, our own and third-party ones."""
