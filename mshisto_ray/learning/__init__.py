"""Shared by tile heads and MIL: folds, metrics, intervals, comparison of models."""
