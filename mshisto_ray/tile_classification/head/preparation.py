"""What a fold's training tiles decide of its input: moments, reduction, noise."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from mshisto_ray import components
from mshisto_ray.config import InputError
from mshisto_ray.learning.split import Split
from mshisto_ray.representation import normalise
from mshisto_ray.representation.noises import Noise
from mshisto_ray.representation.normalise import Moments, Standardisation
from mshisto_ray.representation.preparation import (
    Draw,
    check_rows,
    draw_evenly,
    reduction_of,
    space_of,
    with_reduction,
)
from mshisto_ray.tile_classification.head.config import NOISES, TileModelConfig
from mshisto_ray.tile_classification.head.epochs import release
from mshisto_ray.tile_classification.head.samples import TileSamples


def group_moments(samples: TileSamples) -> tuple[Moments, np.ndarray]:
    """Moments of every run of tiles of one slide and group, and each run's group.

    Raises:
        InputError: embeddings that are not finite.
    """
    counts, means, scatters, groups = [], [], [], []
    for slide, rows in samples.by_slide(np.arange(len(samples))):
        values = samples.read(rows)
        for group in np.unique(samples.group[rows]):
            own = values[samples.group[rows] == group]
            count, mean, scatter = normalise.moments(own)
            if not np.isfinite(mean).all():
                raise InputError(
                    f"embeddings: slide {samples.features.slide_ids[slide]!r} has "
                    "values that are not finite: embed it again, or leave it out"
                )
            for found, value in zip(
                (counts, means, scatters, groups),
                (count, mean, scatter, group),
                strict=True,
            ):
                found.append(value)
        release(samples)
    parts = Moments(np.array(counts), np.stack(means), np.stack(scatters))
    return parts, np.array(groups)


def fit_preparation(
    samples: TileSamples,
    moments: tuple[Moments, np.ndarray],
    train: np.ndarray,
    config: TileModelConfig,
) -> Standardisation:
    """Standardisation and reduction, of the training tiles alone.

    A group whose tiles are in ``train`` several times counts as often.
    """
    parts, group = moments
    num_groups = len(samples.groups)
    whole = np.bincount(samples.group, minlength=num_groups)
    drawn = np.bincount(samples.group[train], minlength=num_groups)
    index = np.arange(len(group)).repeat((drawn // np.maximum(whole, 1))[group])
    own = Moments(parts.count[index], parts.mean[index], parts.scatter[index])
    draw = _draw(samples, train)
    num = len(samples.classes)
    return with_reduction(normalise.fit(own, config.clip), config.reduction, num, draw)


def make_noise(
    samples: TileSamples,
    prepare: Standardisation,
    train: np.ndarray,
    config: TileModelConfig,
) -> Noise:
    """The noise of a fold, of the training tiles alone."""
    draw, held_out = _draw(samples, train), _held_out(samples, train)
    space = space_of(prepare, samples.views, draw, held_out)
    return components.build(NOISES, config.noise, space)


def check_folds(
    samples: TileSamples, splits: Sequence[Split], config: TileModelConfig
) -> None:
    """Refuse a noise or reduction that some fold cannot fit, before any work.

    Raises:
        InputError: as the noise says; a reduction to more numbers than training tiles.
    """
    part = config.reduction
    reduction = reduction_of(part, samples.features.dim, len(samples.classes))
    for split in splits:
        check_rows(reduction, part.name, len(split.train))
    check = components.declaration(NOISES, config.noise.name, "check_fold", None)
    for split in splits if check else ():
        check(_held_out(samples, split.train), **config.noise.parameters)


def _held_out(samples: TileSamples, train: np.ndarray) -> frozenset[str]:
    """Slides with a tile that is not in training."""
    ids = list(samples.features.slide_ids)
    others = np.setdiff1d(np.arange(len(samples)), train)
    return frozenset(str(ids[s]) for s in np.unique(samples.slide[others]))


def _draw(samples: TileSamples, train: np.ndarray) -> Draw:
    def draw() -> tuple[torch.Tensor, torch.Tensor | None]:
        (picks,) = draw_evenly(np.array([len(train)]))
        rows = train[picks]
        values = torch.from_numpy(samples.read(rows)).float()
        return values, torch.from_numpy(samples.target[rows])

    return draw
