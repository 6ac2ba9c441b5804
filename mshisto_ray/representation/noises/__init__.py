"""Family of noises on embeddings, for training only."""
