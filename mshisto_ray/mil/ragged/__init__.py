"""Bags of different sizes in one tensor: segments, or padded."""
