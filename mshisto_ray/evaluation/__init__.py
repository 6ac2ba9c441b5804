"""What judges an encoder: retrieval, descriptor distances, bootstrap intervals."""
