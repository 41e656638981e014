"""Datasets as their owners' tools export them, read into COCO's terms; one module a format."""
