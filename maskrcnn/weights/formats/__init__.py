"""Reads checkpoint files of other frameworks without these frameworks."""
