"""Networks: made, loaded, run as an encoder; their precision and projection."""
