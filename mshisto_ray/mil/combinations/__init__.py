"""Family of ways to make one instance of a coarse tile and its finer tiles.

``build(dims, *, ...)`` gives a torch module; see ``_combination`` for what it takes
and returns.
"""

from mshisto_ray.mil.combinations._combination import (
    Combined,
    Finer,
)

__all__ = [
    "Combined",
    "Finer",
]
