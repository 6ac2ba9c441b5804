"""Heads that others trained: their layouts, one a file, read as heads of ours."""
