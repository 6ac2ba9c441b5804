"""How many configs of a sweep are trained at once."""

from __future__ import annotations

import math

# Models of a stack: more of them no longer save calls, and leave the caches.
_MOST_MODELS = 40


def pack_size(num_models: int, pending: int, workers: int) -> int:
    """Configs of a pack.

    Args:
        num_models: of a config: folds and repeats.
        pending: configs that are to be trained.
        workers: at work at once; none is to wait for the packs of others.
    """
    share = math.ceil(pending / workers)
    return max(1, min(_MOST_MODELS // num_models, share))
