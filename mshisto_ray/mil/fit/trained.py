"""Whether fold models have learned anything: the warning "hardly trained"."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mshisto_ray.learning.predictions import Predictions
from mshisto_ray.learning.targets import Target
from mshisto_ray.learning.targets.classes import NEAR
from mshisto_ray.mil.fit.fold_model import FoldModel
from mshisto_ray.mil.fit.optimiser import MILOptimiserConfig, rate_in_words


def trained_share(models: Sequence[FoldModel], target: Target) -> float:
    """Share of models whose training loss fell below ``learned`` times a constant's."""
    learned = target.learned
    return float(np.mean([model.loss < learned * model.chance for model in models]))


def undecided_share(test: Predictions) -> float:
    """Share of test bags whose values say no more than the mean of all does."""
    num = len(test.classes)
    return test.kind.undecided(test.probabilities, test.target, num)


def hardly_trained(
    trained: float, undecided: float, config: MILOptimiserConfig, target: Target
) -> list[str]:
    """A warning for the user; none where the models have learned.

    Args:
        trained: of ``trained_share``.
        undecided: of ``undecided_share``.
        config: of the optimiser.
        target: what is predicted.
    """
    reasons = []
    if trained < 1:
        reasons.append(
            f"in {1 - trained:.0%} of the fold models the training loss is above "
            f"{target.learned:g} times that of a constant prediction"
        )
    if undecided > 0.5:
        reasons.append(
            f"{undecided:.0%} of the test bags have probabilities within {NEAR:g} "
            "(less of a rare class) of the shares of the classes"
        )
    if not reasons:
        return []
    return [
        f"hardly trained: {', and '.join(reasons)}: raise epochs or optimiser.lr (now "
        f"{rate_in_words(config)}), lower batch_size, noise or dropout; or this "
        "pooling cannot see what decides"
    ]
