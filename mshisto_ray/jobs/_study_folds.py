"""Whether the folds of a study can be trained on, before its first step."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mshisto_ray.config import InputError
from mshisto_ray.jobs._study_config import StudySteps
from mshisto_ray.jobs._tile_check import Checked
from mshisto_ray.learning.retraining.thinning import check_sizes
from mshisto_ray.learning.sweep import points
from mshisto_ray.learning.sweep.points import Point
from mshisto_ray.mil.experiment import ExperimentConfig
from mshisto_ray.mil.fit.preparation import check_widths
from mshisto_ray.mil.fit.splits import keep_usable
from mshisto_ray.mil.input.labels import CohortBags, split_cohort
from mshisto_ray.store.cohort import Cohort

_MOST_NAMED = 3


def check_points(steps: StudySteps, cohort: Cohort, dim: int) -> None:
    """Check labels, folds and every point of the sweep, as if all slides had tiles.

    Args:
        steps: of the study.
        cohort: to train on.
        dim: width of an embedding.

    Raises:
        InputError: what the sweep would refuse.
    """
    given = steps.sweep
    wanted = points.expand(given, given.axes, given.search)
    bags = split_cohort(cohort, given.target, given.split, given.unit)
    points.check_select(wanted, bags.splits, given.select)
    if bags.kind.of_classes:
        given.decision.check_classes(bags.classes)
    validated = any(len(split.validation) for split in bags.splits)
    given.decision.check_validation(given.split.validation, validated)
    everyone = np.ones(len(bags.slides), bool)
    for point in wanted:
        config = _experiment(point)
        _check_scales(point.label, config, steps.tile.scales)
        keep_usable(bags, bags.splits, everyone, given.split, config)
        try:
            views = [(dim,)] * len(config.scales or (None,))
            check_widths(bags.kind, len(bags.classes), views, config)
        except InputError as error:
            raise InputError(f"sweep, at {point.label}: {error}") from None
    if given.learning_curve:
        check_sizes(bags.rows, bags.splits, given.split.seed, given.learning_curve)


def check_without_refused(
    steps: StudySteps, cohort: Cohort, checked: Sequence[Checked]
) -> None:
    """Check the folds again without the slides that will have no tiles.

    Args:
        steps: of the study; ``check_points`` has passed.
        cohort: to train on.
        checked: the headers of its slides; those of others are ignored.

    Raises:
        InputError: a fold that then lacks patients or a class.
    """
    given = steps.sweep
    bags = split_cohort(cohort, given.target, given.split, given.unit)
    for point in points.expand(given, given.axes, given.search):
        config = _experiment(point)
        scale = config.scales[0] if config.scales else config.scale
        scale = min(steps.tile.scales) if scale is None else scale
        lost = {
            one.row.slide_id
            for one in checked
            if one.header.refused or scale in one.header.lacking
        }
        if not lost:
            continue
        if all(lost.issuperset(slides) for slides in bags.slides):
            why = next(
                (one.header.refused for one in checked if one.header.refused), ""
            )
            raise InputError(
                f"{cohort.path}: no slide with a label will have tiles at {scale:g} "
                f"um/px{why and f': {why}'}"
            )
        try:
            _check_rest(bags, lost, steps, config)
        except InputError as error:
            own = [row.slide_id for row in cohort.rows if row.slide_id in lost]
            named = ", ".join(own[:_MOST_NAMED]) + (", ..." * (len(own) > _MOST_NAMED))
            raise InputError(
                f"{cohort.path}: {len(own)} slides will have no tiles at {scale:g} "
                f"um/px ({named}; run --check says why), and without them: {error}"
            ) from None


def _check_rest(
    bags: CohortBags, lost: set[str], steps: StudySteps, config: ExperimentConfig
) -> None:
    usable = np.array([not lost.issuperset(slides) for slides in bags.slides], bool)
    keep_usable(bags, bags.splits, usable, steps.sweep.split, config)


def _experiment(point: Point) -> ExperimentConfig:
    assert isinstance(point.config, ExperimentConfig)
    return point.config


def _check_scales(label: str, config: ExperimentConfig, tiled: Sequence[float]) -> None:
    one = config.scale
    for scale in config.scales or (() if one is None else (one,)):
        if scale not in tiled:
            have = ", ".join(f"{mpp:g}" for mpp in tiled)
            raise InputError(
                f"sweep, at {label}: scale {scale:g} um/px is not one of scales "
                f"({have}): add it there, or sweep those"
            )
