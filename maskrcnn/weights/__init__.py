"""Model folders, third-party checkpoints, published weights, and starting from any of them."""
