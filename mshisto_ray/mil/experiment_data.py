"""The bags of an experiment: whether they can be compared, and what MLflow says."""

from __future__ import annotations

from typing import Any

import numpy as np

from mshisto_ray.mil.input.bags import Bags
from mshisto_ray.mil.input.config import InputConfig
from mshisto_ray.tracking import Input


def difference(bags: Bags, first: Bags) -> str | None:
    """Why results on ``bags`` cannot be compared with those on ``first``; or None."""

    def key(of: Bags) -> list[Any]:
        assert of.targets is not None
        columns = of.kind.truth_columns(of.targets, of.classes).values()
        labels = map(repr, zip(*(c.to_pylist() for c in columns), strict=True))
        return sorted(zip(of.names, of.patient_ids, labels, strict=True))

    if key(first) != key(bags):
        return (
            "other bags, patients or labels than at the first point; results on "
            "different bags cannot be compared"
        )
    with_tiles = [set(np.array(b.names)[b.sizes > 0]) for b in (first, bags)]
    torn = sorted(with_tiles[0] ^ with_tiles[1])
    if not torn:
        return None
    return (
        f"{len(torn)} bags have instances there or at the first point but not at both "
        f"({', '.join(torn[:5])}{', ...' if torn[5:] else ''}); results on different "
        "bags cannot be compared: take them out of the cohort, or sweep each scale by "
        "itself"
    )


def bag_inputs(config: InputConfig, bags: Bags) -> list[Input]:
    """The embeddings and the cohort of a config, or its bag table."""
    sizes = {"bags": len(bags), "instances": int(bags.sizes.sum())}
    labels = {"bags": len(bags), "patients": len(set(bags.patient_ids))}
    if config.bags:
        found = [Input(config.bags.name, config.bags, bags.digest, sizes)]
        if config.cohort is None:
            return found
        of = Input(config.cohort.name, config.cohort, bags.identity, labels)
        return [*found, of]
    paths = dict.fromkeys(config.directories)
    found = [Input(path.name, path, bags.digest, sizes) for path in paths]
    assert config.cohort is not None
    return [*found, Input(config.cohort.name, config.cohort, bags.identity, labels)]
