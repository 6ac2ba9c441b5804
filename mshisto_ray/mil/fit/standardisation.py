"""Standardisation of bags, fitted on some of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch

from mshisto_ray.config import InputError
from mshisto_ray.mil.input.bags import Bags
from mshisto_ray.mil.input.scales import FinerScale
from mshisto_ray.representation import normalise
from mshisto_ray.representation.normalise import Moments, Standardisation
from mshisto_ray.store.features import Features


def slide_moments(bags: Bags) -> tuple[Moments, ...]:
    """Moments of every slide in a bag (zeros for others), scale by scale.

    Raises:
        InputError: a slide with embeddings that are not finite.
    """
    used = sorted({member for members in bags.members for member in members})
    found = [_moments(bags, used, bags.features)]
    # Of the tiles that are in bags: others may lie outside every instance.
    return (*found, *(_moments(bags, used, scale) for scale in bags.finer))


def _moments(
    bags: Bags, members: Sequence[int], scale: Features | FinerScale
) -> Moments:
    ids, dim = bags.features.slide_ids, scale.dim
    num = len(ids)
    found = Moments(np.zeros(num, np.int64), np.zeros((num, dim)), np.zeros((num, dim)))
    for member in members:
        count, mean, scatter = normalise.moments(scale.read(member))
        if not np.isfinite(mean).all():
            raise InputError(
                f"embeddings: slide {ids[member]!r} has values that are "
                "not finite: embed it again, or leave it out of the cohort"
            )
        found.count[member], found.mean[member] = count, mean
        found.scatter[member] = scatter
    return found


def fit_standardisation(
    bags: Bags,
    slides: Sequence[Moments],
    index: np.ndarray,
    clip: float | None = None,
) -> Standardisation:
    """Standardisation over all tiles of the bags at ``index``, scale by scale."""
    rows = sorted({member for i in index for member in bags.members[i]})
    fitted = []
    for part in slides:
        chosen = Moments(part.count[rows], part.mean[rows], part.scatter[rows])
        if chosen.count.sum() == 0:  # no finer tile in any of them
            dim = part.mean.shape[1]
            fitted.append(Standardisation(torch.zeros(dim), torch.ones(dim), clip=clip))
        else:
            fitted.append(normalise.fit(chosen, clip))
    return replace(fitted[0], finer=tuple(fitted[1:]))
