"""Pure functions of the model: tensors in, tensors out, on any backend, with static or (TensorFlow) unknown sizes."""
