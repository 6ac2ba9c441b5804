"""Bags far from everything that a model learns from: what it says is extrapolated."""

from __future__ import annotations

import functools
from dataclasses import dataclass, field

import numpy as np

from mshisto_ray.learning.split import SplitConfig
from mshisto_ray.mil.fit.splits import plan_splits
from mshisto_ray.mil.fit.standardisation import fit_standardisation, slide_moments
from mshisto_ray.mil.input.bags import Bags
from mshisto_ray.representation.normalise import FAR
from mshisto_ray.store.features import ArrayFeatures

_SHOWN = 3


def far_notes(bags: Bags, config: SplitConfig, clip: float | None) -> list[str]:
    """A line on test bags whose mean lies more than ``FAR`` deviations off; or none.

    Of tables of bags, whose values are in memory.

    Args:
        bags: with targets.
        config: of their splits.
        clip: of the config; values that are cut off are not far.
    """
    if clip is not None or not isinstance(bags.features, ArrayFeatures):
        return []
    key = f"{bags.identity} {bags.folds} {bags.groups} {config.model_dump_json()}"
    return list(_notes(_Given(key, bags, config)))


@dataclass(frozen=True)
class _Given:
    """Bags and splits, known by ``key``: every point of a sweep has the same."""

    key: str
    bags: Bags = field(compare=False)
    config: SplitConfig = field(compare=False)


@functools.lru_cache(maxsize=1)
def _notes(given: _Given) -> tuple[str, ...]:
    bags, splits = given.bags, plan_splits(given.bags, given.config, None)
    slides = slide_moments(bags)
    counts, means = slides[0].count.astype(float), slides[0].mean
    found: dict[tuple[int, int], float] = {}
    for split in splits:
        fit = fit_standardisation(bags, slides, split.train)
        mean, std = fit.mean.double().numpy(), fit.std.double().numpy()
        for index in split.test.tolist():
            members = list(bags.members[index])
            own = counts[members] @ means[members] / max(counts[members].sum(), 1)
            far = np.abs(own - mean) / std
            for feature in np.flatnonzero(far > FAR).tolist():
                key = index, feature
                found[key] = max(found.get(key, 0.0), float(far[feature]))
    if not found:
        return ()
    order = sorted(found, key=lambda key: -found[key])
    named = [
        f"{bags.names[bag]} in feature {feature} by {found[bag, feature]:,.0f}"
        for bag, feature in order[:_SHOWN]
    ]
    num = len({bag for bag, _ in found})
    features = len({feature for _, feature in found})
    return (
        f"warning: {num} of {len(bags)} bags lie more than {FAR:g} standard deviations "
        f"of their training fold off in {features} features, so their predictions are "
        f"extrapolated without limit ({', '.join(named)}"
        f"{', ...' if order[_SHOWN:] else ''}; the first feature is 0): leave such "
        "features out, or cut off with clip=10",
    )
