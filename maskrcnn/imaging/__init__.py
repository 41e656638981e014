"""Images as NumPy arrays: reading, resizing, pasting masks, drawing; NumPy and Pillow only."""
