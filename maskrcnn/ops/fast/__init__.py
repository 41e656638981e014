"""Operations that only buy speed; each has a plain equivalent in `ops`, `model` or Keras."""
