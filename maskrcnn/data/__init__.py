"""How images and annotations reach the model: COCO JSON or TFRecords in, padded batches out."""

from maskrcnn.runtime.backend import leave_accelerators_to_jax

leave_accelerators_to_jax()
