"""Standardisation and reduction of embeddings, fitted on the training fold."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mshisto_ray import components
from mshisto_ray.components import Part
from mshisto_ray.config import InputError
from mshisto_ray.representation.differences import file_digest
from mshisto_ray.representation.noises import FAMILY as NOISES
from mshisto_ray.representation.normalise import Reduced, Standardisation
from mshisto_ray.representation.reductions import FAMILY, Reduction, check_width
from mshisto_ray.representation.space import Space

# Rows that reductions and noises are fitted on: enough for a covariance of 2048
# features, and the same memory however many tiles a fold has.
MOST_ROWS = 16384

# A draw of raw training rows [n, D], with the class of each where there is one.
Draw = Callable[[], tuple[torch.Tensor, torch.Tensor | None]]


def reduction_of(part: Part, width: int, num_classes: int) -> Reduction:
    """Build a reduction; InputError where this width or number of classes is no use."""
    return components.build(FAMILY, part, width, num_classes)


def reduces(part: Part) -> bool:
    """Whether a reduction is any but ``none``, the neutral part of its family."""
    return part.name != "none"


def check_rows(reduction: Reduction, name: str, rows: int) -> None:
    """Refuse a reduction that needs more training rows than there are, before any work.

    Args:
        reduction: of the fold.
        name: of its part.
        rows: that the fold trains on.

    Raises:
        InputError: too few.
    """
    if rows < reduction.least_rows:
        spare = reduction.least_rows - reduction.width
        check_width(name, reduction.width, rows - spare, "training tiles")


def check_noise(noise: Part, reduction: Part, views: Sequence[int]) -> None:
    """Refuse a noise that does not suit the views of a tile, before any work.

    Args:
        noise: whose part may declare ``check``.
        reduction: of the same config.
        views: raw columns of each view.

    Raises:
        InputError: strengths or files that do not suit the views.
    """
    check = components.declaration(NOISES, noise.name, "check", None)
    if check:
        check(tuple(views), reduces(reduction), **noise.parameters)


def with_reduction(
    standardise: Standardisation, part: Part, num_classes: int, draw: Draw
) -> Standardisation:
    """The standardisation followed by a reduction that is fitted on drawn rows."""
    if not reduces(part):
        return standardise
    reduction = reduction_of(part, len(standardise.mean), num_classes)
    rows, codes = draw()
    state = reduction.fit(standardise(rows), codes)
    return dataclasses.replace(standardise, reduced=Reduced(reduction, dict(state)))


def space_of(
    standardise: Standardisation,
    views: tuple[int, ...],
    draw: Draw,
    held_out: frozenset[str],
) -> Space:
    """What a noise may know of the fold whose preparation this is.

    Args:
        standardise: of the fold, with its reduction.
        views: raw columns of each view.
        draw: training rows of the fold.
        held_out: slides outside the fold.
    """
    reduced = standardise.reduced
    width = reduced.reduction.width if reduced else len(standardise.mean)

    def project(raw: torch.Tensor) -> torch.Tensor:
        scaled = raw / standardise.std.cpu()
        if reduced is None:
            return scaled
        if not reduced.reduction.linear:
            raise InputError(
                "noise: differences of tiles cannot be mapped by a reduction that is "
                "not linear: take reduction=pca, or another noise"
            )
        on_cpu = reduced.to(torch.device("cpu"))
        return on_cpu(scaled) - on_cpu(torch.zeros_like(scaled))

    def rows() -> torch.Tensor:
        return standardise.to(torch.device("cpu"))(draw()[0])

    return Space(width, (width,) if reduced else views, rows, project, held_out)


def draw_evenly(counts: np.ndarray) -> list[np.ndarray]:
    """Rows to draw of parts with so many rows each: at most ``MOST_ROWS`` of all.

    Every k-th row of all parts one after another, so each part has its share.
    """
    total = int(counts.sum())
    num = min(total, MOST_ROWS)
    chosen = (np.arange(num) * (total / max(num, 1))).astype(np.int64)
    ends = counts.cumsum()
    cuts = np.searchsorted(chosen, ends)
    parts = np.split(chosen, cuts[:-1])
    return [part - start for part, start in zip(parts, ends - counts, strict=True)]


def by_content(family: str, part: Part) -> dict[str, Any]:
    """A part's name and parameters for a recipe, with digests in place of files."""
    found = part.model_dump(mode="json")
    for key in components.declaration(family, part.name, "FILES", ()):
        paths = part.parameters[key]
        each = paths if isinstance(paths, tuple | list) else [paths]
        found[key] = [file_digest(Path(path)) for path in each]
    return found
