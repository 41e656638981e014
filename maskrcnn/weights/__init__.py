"""Weights from elsewhere: reading, naming, publishing and transferring them."""
