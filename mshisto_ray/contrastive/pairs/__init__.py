"""Family of pair sources: ``build(index, *, ...)`` -> PairSource."""

from mshisto_ray.contrastive.pairs._measures import finer_pairs, near_far_pairs
from mshisto_ray.contrastive.pairs._source import (
    PairBatch,
    PairSource,
    draw_batch,
    drawn_pairs,
)

__all__ = [
    "PairBatch",
    "PairSource",
    "draw_batch",
    "drawn_pairs",
    "finer_pairs",
    "near_far_pairs",
]
