"""From records to padded training batches with tf.data."""
