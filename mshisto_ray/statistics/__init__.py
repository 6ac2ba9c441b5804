"""Bootstrap intervals and rank metrics."""
