"""What is fitted on the training bags of a fold: preparation, and the noise."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import torch

from mshisto_ray import components
from mshisto_ray.components import Part
from mshisto_ray.config import InputError
from mshisto_ray.learning.targets import Target
from mshisto_ray.mil.fit.config import NOISES, TrainConfig
from mshisto_ray.mil.fit.standardisation import fit_standardisation
from mshisto_ray.mil.input.bags import Bags
from mshisto_ray.mil.model import needs_places
from mshisto_ray.representation.noises import Noise
from mshisto_ray.representation.normalise import Moments, Standardisation
from mshisto_ray.representation.preparation import (
    Draw,
    check_noise,
    check_rows,
    draw_evenly,
    reduction_of,
    space_of,
    with_reduction,
)
from mshisto_ray.representation.reductions import FAMILY as REDUCTIONS


def fit_preparation(
    bags: Bags, slides: Sequence[Moments], index: np.ndarray, config: TrainConfig
) -> Standardisation:
    """Standardisation and reduction over all tiles of the bags at ``index``.

    A reduction is fitted on at most 16384 tiles, drawn evenly, scale by scale.
    """
    whole = fit_standardisation(bags, slides, index, config.clip)
    num = len(bags.classes)
    finer = tuple(
        with_reduction(part, config.reduction, num, _draw(bags, index, scale))
        for scale, part in enumerate(whole.finer, start=1)
    )
    first = replace(whole, finer=finer)
    return with_reduction(first, config.reduction, num, _draw(bags, index, 0))


def build_noises(
    bags: Bags, prepare: Standardisation, index: np.ndarray, config: TrainConfig
) -> list[Noise]:
    """The noise at each scale, coarsest first, fitted on the bags at ``index``."""
    held_out = _held_out(bags, index)
    views = [bags.views or (bags.dims[0],), *((d,) for d in bags.dims[1:])]
    noises = []
    for scale, part in enumerate((prepare, *prepare.finer)):
        draw = _draw(bags, index, scale)
        space = space_of(part, views[scale], draw, held_out)
        noises.append(components.build(NOISES, config.noise, space))
    return noises


def check_folds(bags: Bags, parts: Sequence[np.ndarray], config: TrainConfig) -> None:
    """Refuse a noise or reduction that some training part cannot fit, before any work.

    ``parts``: the training bags of each fold.

    Raises:
        InputError: as the noise says; a reduction to more numbers than training tiles.
    """
    _check_rows(bags, parts, config)
    check = components.declaration(NOISES, config.noise.name, "check_fold", None)
    for index in parts if check else ():
        check(_held_out(bags, index), **config.noise.parameters)


def _check_rows(bags: Bags, parts: Sequence[np.ndarray], config: TrainConfig) -> None:
    part, num = config.reduction, len(bags.classes)
    for scale, dim in enumerate(bags.dims):
        reduction = reduction_of(part, dim, num)
        if not reduction.least_rows:
            continue
        _, counts = _reader(bags, scale)
        sizes = [sum(counts[m] for m in members) for members in bags.members]
        for index in parts:
            check_rows(reduction, part.name, sum(sizes[i] for i in index.tolist()))


def _held_out(bags: Bags, index: np.ndarray) -> frozenset[str]:
    """Slides of bags that are not at ``index``."""
    used = {member for i in index for member in bags.members[i]}
    every = {member for members in bags.members for member in members}
    return frozenset(bags.features.slide_ids[member] for member in every - used)


def reduced_widths(part: Part, dims: Sequence[int], num_classes: int) -> list[int]:
    """Widths after a reduction.

    Raises:
        InputError: a reduction to more numbers than there are.
    """
    return [reduction_of(part, dim, num_classes).width for dim in dims]


def check_representation(bags: Bags, config: TrainConfig) -> None:
    """Refuse a part that does not suit the embeddings, before any work.

    Raises:
        InputError: a width that the embeddings cannot give; strengths or files that do
            not suit the views; a pooling of neighbours without places.
    """
    first = bags.views or (bags.dims[0],)
    views = [first, *((dim,) for dim in bags.dims[1:])]
    check_widths(bags.kind, len(bags.classes), views, config)
    if needs_places(config.pooling.name) and bags.places is None:
        raise InputError(
            f"pooling: {config.pooling.name} looks at neighbouring tiles, and these "
            "bags do not say where tiles lie: give embeddings and a cohort in place of "
            "a bag table, or another pooling"
        )


def check_widths(
    target: Target,
    num_classes: int,
    views: Sequence[Sequence[int]],
    config: TrainConfig,
) -> None:
    """Refuse what does not suit the target, or embeddings of such widths.

    ``num_classes``: names that the target resolves; ``views``: columns of each view of
    an instance, at each scale, coarsest first.

    Raises:
        InputError: as of ``check_representation``.
    """
    if config.mixup and not target.of_classes:
        raise InputError(
            f"mixup: mixes classes, and the target is {target.kind}: give mixup=0"
        )
    widths = [sum(each) for each in views]
    name = config.reduction.name
    if components.declaration(REDUCTIONS, name, "OF_CLASSES", False) and (
        not target.of_classes
    ):
        raise InputError(
            f"reduction: {name} separates classes, and the target is "
            f"{target.kind}: take pca"
        )
    reduced_widths(config.reduction, widths, num_classes)
    for each in views:
        check_noise(config.noise, config.reduction, each)


def _draw(bags: Bags, index: np.ndarray, scale: int) -> Draw:
    """Draws tiles of the bags at ``index``, evenly over all of them in their order."""

    def draw() -> tuple[torch.Tensor, torch.Tensor | None]:
        read, counts = _reader(bags, scale)
        owner = {m: i for i in index.tolist() for m in bags.members[i]}
        members = sorted(owner)
        picks = draw_evenly(np.array([counts[m] for m in members]))
        rows = [
            torch.from_numpy(np.asarray(read(member)[places])).float()
            for member, places in zip(members, picks, strict=True)
            if len(places)
        ]
        if not rows:
            raise InputError(
                "reduction, noise: the training bags have no tile to fit them on at "
                "one of the scales"
            )
        sizes = [len(places) for places in picks]
        codes = np.repeat([_code(bags, owner[m]) for m in members], sizes)
        known = None if -1 in codes else torch.from_numpy(codes)
        return torch.cat(rows), known

    return draw


def _reader(
    bags: Bags, scale: int
) -> tuple[Callable[[int], np.ndarray], dict[int, int]]:
    """What reads a slide's tiles at a scale, and how many it has, by member."""
    used = {member for members in bags.members for member in members}
    if scale == 0:
        counts = bags.features.counts
        return bags.features.read, {m: int(counts[m]) for m in used}
    finer = bags.finer[scale - 1]
    return finer.read, {m: len(finer.children[m].rows) for m in used}


def _code(bags: Bags, bag: int) -> int:
    """The class of a bag, -1 where its target is no class."""
    if bags.targets is None or not bags.kind.of_classes:
        return -1
    return int(bags.targets[bag])
