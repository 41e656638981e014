"""What a run writes while it works: DLLogger lines, TensorBoard events, throughput; and reading them back."""
