"""Synthetic whole slide images with known truth, as real pyramidal TIFFs."""
