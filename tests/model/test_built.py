"""The model is complete when it is made."""

import dataclasses

from maskrcnn.config import Category
from maskrcnn.model import MaskRCNN


def test_every_layer_is_built(micro):
    """Keras runs a model with a layer that is not, once and eagerly, which under JAX takes longer than compiling."""
    model = MaskRCNN(dataclasses.replace(micro, categories=(Category(1, 1, "dog"),)))
    assert [layer.path for layer in model._flatten_layers() if not layer.built] == []
