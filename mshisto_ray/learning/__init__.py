"""What tile heads and MIL share: folds, metrics, intervals, comparison of models."""
