"""Several stages in a row."""
