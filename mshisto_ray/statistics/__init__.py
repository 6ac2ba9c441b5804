"""Rank metrics, DeLong's covariance, intervals, paired differences, the bootstrap."""
