"""Networks: creation, weights, use as an encoder, precision and projection."""
