"""Evaluation of encoders: retrieval, descriptor distances, bootstrap intervals."""
