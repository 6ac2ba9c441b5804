"""Whether fold models have learned anything: the warning "hardly trained"."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mshisto_ray.learning.predictions import Predictions
from mshisto_ray.mil.fit.fold_model import FoldModel
from mshisto_ray.mil.fit.optimiser import MILOptimiserConfig, rate_in_words
from mshisto_ray.mil.fit.stopping import TRAINED

# Probabilities this close to the shares of the classes say nothing about a bag.
_NEAR = 0.1


def trained_share(models: Sequence[FoldModel]) -> float:
    """Share of models whose training loss fell below 0.9 of a constant's."""
    return float(np.mean([model.loss < TRAINED * model.chance for model in models]))


def undecided_share(test: Predictions) -> float:
    """Share of test bags whose probabilities are all within 0.1 of the class shares."""
    num = len(test.classes)
    share = np.bincount(test.target, minlength=num) / len(test.target)
    return float((np.abs(test.probabilities - share).max(1) < _NEAR).mean())


def hardly_trained(
    trained: float, undecided: float, config: MILOptimiserConfig
) -> list[str]:
    """A warning for the user; none where the models have learned.

    Args:
        trained: of ``trained_share``.
        undecided: of ``undecided_share``.
        config: of the optimiser.
    """
    reasons = []
    if trained < 1:
        reasons.append(
            f"in {1 - trained:.0%} of the fold models the training loss is above "
            f"{TRAINED:g} times that of a constant prediction"
        )
    if undecided > 0.5:
        reasons.append(
            f"{undecided:.0%} of the test bags have probabilities within {_NEAR:g} of "
            "the shares of the classes"
        )
    if not reasons:
        return []
    return [
        f"hardly trained: {', and '.join(reasons)}: raise epochs or optimiser.lr (now "
        f"{rate_in_words(config)}), lower batch_size, noise or dropout; or this "
        "pooling cannot see what decides"
    ]
