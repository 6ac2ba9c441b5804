"""Family of searches: which points of a sweep's axes are trained."""

from mshisto_ray.learning.sweep.searches._search import PointSearch, Tried

__all__ = ["PointSearch", "Tried"]
