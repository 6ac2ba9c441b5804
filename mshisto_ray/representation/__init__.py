"""What is done to embeddings before a head sees them: normalisation and noise."""
