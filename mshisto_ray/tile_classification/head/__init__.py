"""Small heads on embeddings of tiles: labels, training, metrics, files."""
