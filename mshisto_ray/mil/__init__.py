"""Multiple-instance learning: bags, poolings, training, cross-validation, heads."""
