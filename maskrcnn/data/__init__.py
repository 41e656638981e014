"""How images and annotations reach the model: COCO JSON or TFRecords in, padded batches out."""
