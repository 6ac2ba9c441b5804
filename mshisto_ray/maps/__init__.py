"""Scores of tiles as probability maps; regions and points of them."""
