"""Family of MIL poolings with their classifiers: instances of bags to probabilities.

``build(dim, num_classes, *, ...)`` gives a torch module; see ``_pooling`` for what it
takes and returns.
"""

from mshisto_ray.mil.poolings._pooling import (
    Auxiliary,
    Pooled,
    log_probabilities,
    mean_of_instances,
    num_logits,
)

__all__ = [
    "Auxiliary",
    "Pooled",
    "log_probabilities",
    "mean_of_instances",
    "num_logits",
]
