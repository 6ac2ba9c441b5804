"""Random bags of a slide that vote, and random tiles of it for an epoch."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mshisto_ray.config import Config, option


class VoteConfig(Config):
    """Every slide as some random bags of a fixed size, which vote on its class."""

    bags: int = option(50, "random bags of each slide or patient", ge=1)
    size: int = option(
        100, "instances of each; a slide with fewer gives all of them", ge=1
    )
    seed: int = option(0, "decides which instances", ge=0)
    together: bool = option(
        False,
        "training: random bags of a slide follow each other: a step holds those of few "
        "slides, whose tiles of several scales are combined once for all of them",
    )


@dataclass(frozen=True)
class EpochTiles:
    """At most ``size`` instances of each training bag, other ones in every epoch."""

    size: int
    seed: int


def draw(
    config: VoteConfig | EpochTiles, name: str, num: int, number: int
) -> np.ndarray:
    """Rows of random bag ``number`` of a bag of ``num`` instances, in rising order.

    Without replacement. They depend on (seed, name, number) alone: not on order,
    epoch, fold, worker or other bags. With ``EpochTiles`` the number is the epoch.

    Source: Tan et al. 2023, section 3.3: 50 bags of 100 tiles of each slide. The paper
    does not state whether a tile may be drawn twice.
    """
    if num <= config.size:
        return np.arange(num)
    text = hashlib.blake2b(name.encode(), digest_size=8).digest()
    key = np.random.SeedSequence([config.seed, int.from_bytes(text), number])
    generator = np.random.Generator(np.random.Philox(key))
    return np.sort(generator.choice(num, config.size, replace=False, shuffle=False))


def num_draws(config: VoteConfig, num: int) -> int:
    """Number of distinct random bags: one for a slide that fits into a bag."""
    return config.bags if num > config.size else 1


def without_copies(
    drawn: Sequence[tuple[int, np.ndarray]],
) -> tuple[dict[int, np.ndarray], np.ndarray]:
    """What random bags hold, each instance once.

    Args:
        drawn: random bags, each (bag, its rows).

    Returns:
        The rows of every bag that some of its random bags hold, in rising order; and
        for all instances of ``drawn`` their places among these, bag by bag, int64 [K].
    """
    held: dict[int, list[np.ndarray]] = {}
    for bag, rows in drawn:
        held.setdefault(bag, []).append(rows)
    kept = {bag: np.unique(np.concatenate(own)) for bag, own in held.items()}
    sizes = np.array([len(rows) for rows in kept.values()])
    first = dict(zip(kept, (sizes.cumsum() - sizes).tolist(), strict=True))
    places = [first[bag] + np.searchsorted(kept[bag], rows) for bag, rows in drawn]
    return kept, np.concatenate(places)
