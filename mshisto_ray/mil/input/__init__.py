"""Bags and their sources."""
