"""What a run writes while it works: DLLogger lines, TensorBoard scalars, a progress bar; and the history read back."""
