"""Images as NumPy arrays: reading, placing on the canvas, pasting masks, drawing. NumPy and Pillow only."""
