"""The evaluation plan: queries, pairs and bootstrap clusters.

It depends on tiles and classes only, so it is the same for every encoder, and
differences between encoders are paired.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from pydantic import model_validator

from mshisto_ray.config import Config, InputError, option
from mshisto_ray.evaluation.descriptor_distance import (
    Pairs,
    label_pairs,
    near_far_pairs,
)
from mshisto_ray.evaluation.labelled_tiles import ExclusionConfig, LabelledTiles
from mshisto_ray.evaluation.retrieval import RetrievalTask, plan_retrieval
from mshisto_ray.evaluation.tile_set import TileSet

_LEAST_PATIENTS = 10


class BootstrapConfig(Config):
    """What the bootstrap resamples."""

    unit: Literal["auto", "patient", "block"] = option(
        "auto",
        "patients; or square blocks of the slides, where there are few patients: such "
        "intervals hold for these slides only; auto: patients if ten or more have "
        "queries",
    )
    block_um: float = option(1000.0, "side of a block", unit="um", gt=0)


class QuestionConfig(Config):
    """Queries, pairs and intervals, the same for every encoder."""

    queries: tuple[str, ...] | None = option(
        None,
        "classes used as queries; null: every class but the unannotated tiles",
        min_length=1,
    )
    max_queries: int = option(5000, "of each class, drawn at random", ge=1)
    exclude: ExclusionConfig = ExclusionConfig()
    depth: int = option(10, "k of mAP@k", ge=1)
    near_um: float = option(
        300.0, "largest distance of a near pair of a slide", unit="um", gt=0
    )
    far_um: float = option(
        1500.0, "smallest distance of a far pair of a slide", unit="um", gt=0
    )
    normalise: bool = option(
        True, "distances between vectors of length 1 (the order of cosines)"
    )
    bootstrap: BootstrapConfig = BootstrapConfig()
    seed: int = option(0, "seed for drawing queries and pairs", ge=0)

    @model_validator(mode="after")
    def _near_is_nearer(self) -> QuestionConfig:
        if self.near_um >= self.far_um:
            raise ValueError(
                f"near_um ({self.near_um:g}) must be less than far_um "
                f"({self.far_um:g}): no pair is both near and far"
            )
        return self


@dataclass(frozen=True)
class Plan:
    """The queries and pairs that every encoder is scored on.

    ``cluster``: bootstrap cluster of each row [N]; ``cross``: rows whose parent is
    searched, and the parent's row in ``coarse``, [Q] each; ``notes``: what was left
    out.
    """

    labelled: LabelledTiles
    retrieval: RetrievalTask
    by_label: Pairs
    by_distance: Pairs
    coarse: TileSet | None
    cross: tuple[np.ndarray, np.ndarray]
    cluster: np.ndarray
    cluster_kind: str
    notes: tuple[str, ...]


def make_plan(
    labelled: LabelledTiles, coarse: TileSet | None, config: QuestionConfig
) -> Plan:
    """Draw queries and pairs.

    Args:
        labelled: the tiles.
        coarse: all tiles of the same slides at the next coarser scale, if any.
        config: queries, pairs and intervals.

    Raises:
        InputError: an unknown class, or no query has a relevant target.
    """
    rng = np.random.default_rng(config.seed)
    queries = _sample(labelled, config, rng)
    exclusion = labelled.exclusion(config.exclude)
    task = plan_retrieval(labelled.label, queries, exclusion, config.depth)
    notes = _without_target(labelled, task, config.exclude) if len(queries) else []
    tiles, seed = labelled.tiles, config.seed
    by_label = label_pairs(labelled.label, task.queries, exclusion, seed=seed)
    by_distance = near_far_pairs(
        tiles.slide, tiles.centre, config.near_um, config.far_um, seed=seed
    )
    if not len(by_distance.first):
        notes.append(
            f"no tile has both a near ({config.near_um:g} um) and a far "
            f"({config.far_um:g} um) one on its slide: no spatial ADDR and AUC"
        )
    cross = _find_parents(tiles, coarse, config.max_queries, rng, notes)
    if not (len(queries) or len(by_distance.first) or len(cross[0])):
        raise InputError(
            "label.column: without classes only near and far pairs and parents are "
            f"evaluated, and these tiles have neither: {'; '.join(notes)}; lower "
            "far_um, or embed two scales"
        )
    rows = task.queries if len(task.queries) else np.arange(len(labelled.label))
    cluster, kind = _clusters(labelled, rows, config.bootstrap)
    if len(np.unique(cluster[rows])) == 1:
        notes.append(f"all queries belong to one of the {kind}: no intervals")
    return Plan(
        labelled,
        task,
        by_label,
        by_distance,
        coarse,
        cross,
        cluster,
        kind,
        (*labelled.notes, *notes),
    )


def _sample(
    labelled: LabelledTiles, config: QuestionConfig, rng: np.random.Generator
) -> np.ndarray:
    rows = labelled.query_rows(config.queries)
    drawn = []
    for code in np.unique(labelled.label[rows]):
        own = rows[labelled.label[rows] == code]
        drawn.append(rng.choice(own, min(config.max_queries, len(own)), replace=False))
    return np.sort(np.concatenate([rows[:0], *drawn]))


def _without_target(
    labelled: LabelledTiles, task: RetrievalTask, exclude: ExclusionConfig
) -> list[str]:
    """A note on queries without a relevant target; InputError if all lack one."""
    names = {labelled.classes[c]: n for c, n in task.without_target.items() if n}
    counted = ", ".join(f"{name}: {n}" for name, n in names.items())
    if len(task.queries):
        note = "queries without a relevant target, not in the means: "
        return [note + counted] if names else []
    rule = f"exclude.by={exclude.by}"
    rule += f" within {exclude.block_um:g} um" if exclude.by == "block" else ""
    raise InputError(
        f"queries: no query has a relevant target ({counted}): {rule} leaves no other "
        "tile of its class to find; exclude less (block, self), use smaller tiles, "
        "or query other classes"
    )


def _find_parents(
    tiles: TileSet,
    coarse: TileSet | None,
    most: int,
    rng: np.random.Generator,
    notes: list[str],
) -> tuple[np.ndarray, np.ndarray]:
    if coarse is None:
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    rows = np.sort(rng.choice(len(tiles), min(most, len(tiles)), replace=False))
    parents = tiles.select(rows).parents(coarse)
    held = parents >= 0
    if not held.all():
        notes.append(
            f"{(~held).sum()} of the {len(rows)} tiles whose parent is searched have "
            f"their centre in no tile of {coarse.mpp:g} um/px: not in parent recall"
        )
    return rows[held], parents[held]


def _clusters(
    labelled: LabelledTiles, queries: np.ndarray, config: BootstrapConfig
) -> tuple[np.ndarray, str]:
    patients = len(np.unique(labelled.patient[queries]))
    enough = config.unit == "auto" and patients >= _LEAST_PATIENTS
    if config.unit == "patient" or enough:
        return labelled.patient, "patients"
    tiles = labelled.tiles
    block = (tiles.centre // config.block_um).astype(np.int64)
    keys = np.column_stack([tiles.slide, block])
    return np.unique(keys, axis=0, return_inverse=True)[1].ravel(), (
        f"blocks of {config.block_um:g} um"
    )
