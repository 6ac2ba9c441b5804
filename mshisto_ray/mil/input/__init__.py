"""Bags and where they come from."""
