"""Normalisation of embeddings, and noise added to them, before they enter a head."""
