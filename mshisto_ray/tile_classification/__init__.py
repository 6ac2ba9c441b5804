"""Classes of single tiles: encoders that are fine-tuned on them."""
