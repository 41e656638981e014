"""How fast training and inference are, and how much memory they take."""
